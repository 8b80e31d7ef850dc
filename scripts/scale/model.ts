import {
  CLOUDFLARE,
  costOf,
  costOfMore,
  type FixedPlan,
  type Price,
  UPSTASH,
  UPSTASH_PAY_AS_YOU_GO,
  UPSTASH_PLANS,
  VALKEY,
} from "./prices";

/** What no price list says. Measured or estimated as each comment tells, and rather too high than too low. */
export const ASSUMED = {
  daysAMonth: 30,
  /** Worker CPU of a decision, of the `chat` policy. Estimated. */
  cpuMs: 1,
  /** How long a call keeps its object active, alone. Estimated: docs/scale.md cites 10 to 13 ms for a commit. */
  activeMs: { writing: 15, reading: 2 },
  /** An object is billed for 128 MB, whatever it uses. */
  objectGb: 0.128,
  /** Estimated: an account that is in memory reads only what its upsert looks up. */
  rowsReadACall: 2,
  /**
   * What a key costs from its first event until it is forgotten, beside its decisions: its table (2 rows), its alarm (1),
   * an alarm an hour later that sets another (a call, a row), and the last, which deletes its page (a call, a row).
   */
  visit: { rows: 5, calls: 2, storedHours: 2, storedKb: 16 },
  /** Among many keys in an object, there is only the page to delete. */
  sharedVisit: { rows: 1, calls: 0, storedHours: 2, storedKb: 4 },
  /** Events on a page of 2,000 characters (docs/storage.md): how many of a batch share one row. */
  eventsAPage: 25,
  /** A flood on one key while it lasts, and how many isolates it reaches. */
  flood: { perSecond: 1_000, isolates: 10, denyCacheMs: 1_000 },
  /** An invocation's log with its request and headers, one a Worker request and one an object call. Estimated. */
  log: { kb: 2, keptDays: 7 },
  /** Of a Lua script that decides as exactly as we do over the two counters of `chat`, which have three limits. */
  redis: {
    /** EVALSHA; per counter prune, look for the id, add, expire; count per limit; WAITAOF. */
    admittedCommands: 1 + 2 * 4 + 3 + 1,
    /** EVALSHA; per counter prune and look for the id; count per limit; when will it fit. */
    deniedCommands: 1 + 2 * 2 + 3 + 1,
    /** EVALSHA; count per limit. */
    checkedCommands: 1 + 3,
    trafficKb: 1,
    eventKb: 0.2,
    keptHours: 1,
    writtenKb: 0.5,
    /** Decisions a second on one cache.r7g.large primary, every one a script of a dozen commands. Estimated. */
    decisionsPerSecond: 5_000,
    nodesAShard: 2,
    usableGbAShard: 10,
  },
  /** Calls a second that Cloudflare says one object takes: 200 to 500 with storage writes, a soft limit of 1,000. */
  callsPerSecond: [200, 500, 1_000],
  /** Decisions a second of one object, many to a commit, as measured on two cores of ours. */
  decisionsPerSecond: 12_500,
  /** Milliseconds: backend to edge, edge to object, commit, and the first pause before a call is tried again. */
  latency: { near: { edge: 5, object: 10 }, far: { edge: 5, object: 120 }, commit: 12, pause: 20, deadline: 1_000 },
} as const;

/** What one decision uses, on average over its kind. */
export interface Usage {
  readonly requests: number;
  readonly calls: number;
  readonly rowsWritten: number;
  /** How many of the calls end in a commit. */
  readonly commits: number;
  /** Keys that it wakes from idleness, and that are forgotten again. */
  readonly visits: number;
  /** Commands of a Redis in our place, and whether it writes. */
  readonly commands: number;
  readonly redisWrites: number;
  /** Decisions that reach a Redis in our place at all. */
  readonly asked: number;
}

export const NOTHING: Usage = {
  requests: 0,
  calls: 0,
  rowsWritten: 0,
  commits: 0,
  visits: 0,
  commands: 0,
  redisWrites: 0,
  asked: 0,
};

/** What a decision uses that is of each kind with some share. */
export function mixed(...kinds: readonly [share: number, usage: Usage][]): Usage {
  const total = { ...NOTHING };
  for (const [share, usage] of kinds)
    for (const field of Object.keys(total) as (keyof Usage)[]) total[field] += share * usage[field];
  return total;
}

export interface Placement {
  /** Objects that share all keys; undefined: an object a key. */
  readonly shards?: number | undefined;
}

const { admittedCommands, deniedCommands, checkedCommands } = ASSUMED.redis;

/** A decision about a user and an address meets one object only when both keys happen to live in the same shard. */
function callsOfTwoKeys({ shards }: Placement): number {
  return shards === undefined ? 2 : 2 - 1 / shards;
}

export function admittedSignedIn(perVisit: number, placement: Placement = {}): Usage {
  const calls = callsOfTwoKeys(placement);
  const redis = { commands: admittedCommands, redisWrites: 1, asked: 1 };
  return { requests: 1, calls, rowsWritten: 2, commits: calls, visits: 2 / perVisit, ...redis };
}

export function admittedAnonymous(perVisit: number): Usage {
  const redis = { commands: admittedCommands, redisWrites: 1, asked: 1 };
  return { requests: 1, calls: 1, rowsWritten: 1, commits: 1, visits: 1 / perVisit, ...redis };
}

/** Reserved in the other object, then put back there: two rows, and a third call. */
export function deniedByOne(perVisit: number, placement: Placement = {}): Usage {
  const apart = callsOfTwoKeys(placement) - 1;
  const redis = { commands: deniedCommands, redisWrites: 0, asked: 1 };
  return {
    requests: 1,
    calls: 1 + 2 * apart,
    rowsWritten: 2 * apart,
    commits: 2 * apart,
    visits: apart / perVisit,
    ...redis,
  };
}

export function deniedByAll(objects: number): Usage {
  return { ...NOTHING, requests: 1, calls: objects, commands: deniedCommands, asked: 1 };
}

export function checked(objects: number): Usage {
  return { ...NOTHING, requests: 1, calls: objects, commands: checkedCommands, asked: 1 };
}

export interface Flood {
  readonly perSecond: number;
  readonly isolates: number;
  readonly denyCacheMs: number;
}

/** Of a flood, each isolate asks once in so many milliseconds and answers the rest by itself. */
export function flooded(perVisit: number, flood: Flood = ASSUMED.flood): Usage {
  const { perSecond, isolates, denyCacheMs } = flood;
  const asking = Math.min(1, (isolates * 1_000) / denyCacheMs / perSecond);
  return { ...mixed([asking, deniedByOne(perVisit)]), requests: 1 };
}

/** Of batches about one user at one address: a call to either object, and a row a page that the events fill. */
export function batchOfOneUser(size: number, perVisit: number): Usage {
  const pages = 1 + (size - 1) / ASSUMED.eventsAPage;
  return {
    requests: 1 / size,
    calls: 2 / size,
    rowsWritten: (2 * pages) / size,
    commits: 2 / size,
    visits: 2 / Math.max(perVisit, size),
    commands: admittedCommands - 1 + 1 / size,
    redisWrites: 1,
    asked: 1,
  };
}

/** Of batches about as many users and addresses: only the HTTP request is shared. */
export function batchOfManyUsers(size: number, perVisit: number): Usage {
  const alone = admittedSignedIn(perVisit);
  return { ...alone, requests: 1 / size, commands: alone.commands - 1 + 1 / size };
}

/** A reader's own traffic. Shares are from 0 to 1. */
export interface Traffic extends Placement {
  readonly decisionsPerDay: number;
  readonly signedIn: number;
  readonly admitted: number;
  readonly checks: number;
  /** Of the denials, those that an isolate answers by itself. */
  readonly atEdge: number;
  /** Decisions about a key from its first event until it has been idle for so long that it is forgotten. */
  readonly perVisit: number;
  /** The busiest second, as a multiple of the mean. */
  readonly peak: number;
  /** The share of all decisions that one address has. */
  readonly hottest: number;
  /** The share of invocations that are logged: `head_sampling_rate`. */
  readonly logged: number;
}

export const TYPICAL: Traffic = {
  decisionsPerDay: 1_000_000,
  signedIn: 0.5,
  admitted: 0.9,
  checks: 0,
  atEdge: 0,
  perVisit: 10,
  peak: 3,
  hottest: 0.001,
  logged: 1,
};

/** What an average decision of the traffic uses. */
export function usageOf(traffic: Traffic): Usage {
  const { signedIn, admitted, checks, atEdge, perVisit } = traffic;
  const consumed = 1 - checks;
  const denied = consumed * (1 - admitted);
  return mixed(
    [consumed * admitted * signedIn, admittedSignedIn(perVisit, traffic)],
    [consumed * admitted * (1 - signedIn), admittedAnonymous(perVisit)],
    [denied * (1 - atEdge) * signedIn, deniedByOne(perVisit, traffic)],
    [denied * (1 - atEdge) * (1 - signedIn), deniedByAll(1)],
    [denied * atEdge, { ...NOTHING, requests: 1 }],
    [checks * signedIn, checked(callsOfTwoKeys(traffic))],
    [checks * (1 - signedIn), checked(1)],
  );
}

export interface Item {
  readonly price: Price;
  readonly units: number;
}

/** The load that a bill is for, beside what each decision uses. */
export type Load = Pick<Traffic, "decisionsPerDay" | "peak" | "logged"> & Placement;

/** Everything that Cloudflare bills for so many decisions, in its units; what is included is not taken off. */
export function itemsOf(usage: Usage, decisions: number, { logged, shards }: Pick<Load, "logged" | "shards">): Item[] {
  const visit = shards === undefined ? ASSUMED.visit : ASSUMED.sharedVisit;
  const calls = decisions * (usage.calls + usage.visits * visit.calls);
  const commits = decisions * (usage.commits + usage.visits * visit.calls);
  const activeSeconds = (commits * ASSUMED.activeMs.writing + (calls - commits) * ASSUMED.activeMs.reading) / 1_000;
  const logGb = (logged * (decisions * usage.requests + calls) * ASSUMED.log.kb) / 1_000_000;
  const hoursAMonth = ASSUMED.daysAMonth * 24;
  return [
    { price: CLOUDFLARE.requests, units: decisions * usage.requests },
    { price: CLOUDFLARE.cpuMs, units: decisions * ASSUMED.cpuMs },
    { price: CLOUDFLARE.calls, units: calls },
    { price: CLOUDFLARE.activeGbS, units: activeSeconds * ASSUMED.objectGb },
    { price: CLOUDFLARE.rowsRead, units: calls * ASSUMED.rowsReadACall },
    { price: CLOUDFLARE.rowsWritten, units: decisions * (usage.rowsWritten + usage.visits * visit.rows) },
    {
      price: CLOUDFLARE.storedGbMonths,
      units: (decisions * usage.visits * visit.storedKb * visit.storedHours) / hoursAMonth / 1_000_000,
    },
    { price: CLOUDFLARE.logGb, units: logGb },
    { price: CLOUDFLARE.logGbMonths, units: (logGb * ASSUMED.log.keptDays) / ASSUMED.daysAMonth },
  ];
}

export const monthly = (decisionsPerDay: number) => decisionsPerDay * ASSUMED.daysAMonth;

/** Cloudflare's bill of a month. */
export function cloudflareBill(usage: Usage, load: Load): number {
  const items = itemsOf(usage, monthly(load.decisionsPerDay), load);
  return CLOUDFLARE.plan.usd + items.reduce((usd, { price, units }) => usd + costOf(price, units), 0);
}

/** What a million decisions more cost on Cloudflare, once all that is included is used up. */
export function cloudflareMillion(usage: Usage, load: Pick<Load, "logged" | "shards">): number {
  return itemsOf(usage, 1_000_000, load).reduce((usd, { price, units }) => usd + costOfMore(price, units), 0);
}

/** Of the busiest second. */
export const peakPerSecond = ({ decisionsPerDay, peak }: Pick<Load, "decisionsPerDay" | "peak">) =>
  (decisionsPerDay / 86_400) * peak;

/** What a Redis in our place holds at its fullest. */
function redisGb(usage: Usage, load: Load): number {
  const { eventKb, keptHours } = ASSUMED.redis;
  return (peakPerSecond(load) * usage.redisWrites * 2 * keptHours * 3_600 * eventKb) / 1_000_000;
}

const redisTrafficGb = (usage: Usage, load: Load) =>
  (monthly(load.decisionsPerDay) * usage.asked * ASSUMED.redis.trafficKb) / 1_000_000;

export function upstashPayAsYouGo(usage: Usage, load: Load): number {
  const { gb, commandsPerSecond } = UPSTASH_PAY_AS_YOU_GO;
  const databases = databasesNeeded(usage, load, { gb, commandsPerSecond, bandwidthGb: Infinity });
  return (
    costOf(UPSTASH.commands, monthly(load.decisionsPerDay) * usage.commands) +
    costOf(UPSTASH.bandwidthGb, redisTrafficGb(usage, load)) +
    costOf(UPSTASH.storedGb, redisGb(usage, load)) +
    databases * UPSTASH.replicas.usd
  );
}

/** How many databases hold the data, the traffic and the busiest second. */
function databasesNeeded(usage: Usage, load: Load, most: Omit<FixedPlan, "name" | "usd">): number {
  return Math.max(
    1,
    Math.ceil((peakPerSecond(load) * usage.commands) / most.commandsPerSecond),
    Math.ceil(redisGb(usage, load) / most.gb),
    Math.ceil(redisTrafficGb(usage, load) / most.bandwidthGb),
  );
}

export interface Databases {
  readonly plan: FixedPlan;
  readonly count: number;
  readonly usd: number;
}

/** The cheapest choice of equal databases of a fixed plan. */
export function upstashFixed(usage: Usage, load: Load): Databases {
  const choices = UPSTASH_PLANS.map((plan): Databases => {
    const count = databasesNeeded(usage, load, plan);
    return { plan, count, usd: count * (plan.usd + UPSTASH.replicas.usd) };
  });
  return choices.reduce((best, choice) => (choice.usd < best.usd ? choice : best));
}

export interface Cluster {
  readonly shards: number;
  readonly usd: number;
}

/** Shards of a primary and a replica each, every write in a log of two zones before it is answered. */
export function valkeyCluster(usage: Usage, load: Load): Cluster {
  const { decisionsPerSecond, nodesAShard, usableGbAShard, writtenKb } = ASSUMED.redis;
  const shards = Math.max(
    1,
    Math.ceil((peakPerSecond(load) * usage.asked) / decisionsPerSecond),
    Math.ceil(redisGb(usage, load) / usableGbAShard),
  );
  const hours = shards * nodesAShard * ASSUMED.daysAMonth * 24;
  const writtenGb = (monthly(load.decisionsPerDay) * usage.redisWrites * writtenKb) / 1_000_000;
  return { shards, usd: costOf(VALKEY.nodeHours, hours) + costOf(VALKEY.writtenGb, writtenGb) };
}

/** Calls that a decision about one address makes to the object of that address. */
export function callsAtAddress({ signedIn, admitted, checks, atEdge }: Traffic): number {
  const denied = (1 - admitted) * (1 - atEdge);
  // A signed-in one that its user denies is reserved at the address, and put back.
  return checks + (1 - checks) * (admitted + denied * (1 + signedIn));
}

/** How many decisions a day it takes until the hottest address has so many calls in the busiest second. */
export function decisionsPerDayUntilFull(traffic: Traffic, callsPerSecond: number): number {
  return (callsPerSecond * 86_400) / (traffic.peak * traffic.hottest * callsAtAddress(traffic));
}

/** How many objects must share all keys so that none has more calls than so many in the busiest second. */
export function shardsNeeded(traffic: Traffic, callsPerSecond: number): number {
  const callsOver = (shards: number) => peakPerSecond(traffic) * usageOf({ ...traffic, shards }).calls;
  let shards = 1;
  // The more shards, the more decisions need two of them: at most twice as many calls as over one.
  while (callsOver(shards) > shards * callsPerSecond)
    shards = Math.max(shards + 1, Math.ceil(callsOver(shards) / callsPerSecond));
  return shards;
}
