import { CLOUDFLARE, costOf, costOfMore, PLAN, UPSTASH, UPSTASH_AS_YOU_GO, UPSTASH_PLANS, VALKEY } from "./prices";

/** The traffic of the bill in all its items. Shares are from 0 to 1. */
export const TRAFFIC = {
  signedIn: 0.5,
  admitted: 0.9,
  /** Decisions about a key from its first event until it has been idle for so long that it is forgotten. */
  perVisit: 10,
  /** The busiest second, as a multiple of the mean. */
  peak: 3,
  /** The share of all decisions that one address has. */
  hottest: 0.001,
};

/** Measured or estimated as each comment tells, and rather too high than too low. */
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
  /** Events on a page of 2,000 characters (docs/storage.md): how many of a batch share one row. */
  eventsAPage: 25,
  batch: 32,
  /** A flood on one key while it lasts, and how many isolates it reaches. */
  flood: { perSecond: 1_000, isolates: 10, denyCacheMs: 1_000 },
  /** An invocation's log with its request and headers, one a Worker request and one an object call. Estimated. */
  log: { kb: 2, keptDays: 7 },
  /**
   * A Lua script that decides as exactly as we do over the two counters of `chat`, which have three limits.
   * Admitted: EVALSHA; per counter prune, look for the id, add, expire; count per limit; WAITAOF. Denied: the same without add and
   * expire, and when it will fit. Checked: EVALSHA; count per limit.
   */
  redis: { admitted: 13, denied: 9, checked: 4, trafficKb: 1, eventKb: 0.2, keptHours: 1, writtenKb: 0.5 },
  /** Decisions a second on one cache.r7g.large primary, every one a script of a dozen commands. Estimated. */
  shard: { decisionsPerSecond: 5_000, nodes: 2, usableGb: 10 },
  /** Calls a second that Cloudflare says one object takes: 200 to 500 with storage writes, a soft limit of 1,000. */
  callsPerSecond: [200, 500, 1_000],
  /** Decisions a second of one object, many to a commit, as measured on two cores of ours. */
  decisionsPerSecond: 12_500,
  /** Milliseconds: backend to edge, edge to object, commit, and the first pause before a call is tried again. */
  latency: { near: { edge: 5, object: 10 }, far: { edge: 5, object: 120 }, commit: 12, pause: 20, deadline: 1_000 },
} as const;

const NOTHING = {
  requests: 0,
  calls: 0,
  rowsWritten: 0,
  /** Calls that end in a commit. */
  commits: 0,
  /** Keys that it wakes from idleness, and that are forgotten again. */
  visits: 0,
  /** Commands of a Redis in our place, decisions that reach it, and those that it writes. */
  commands: 0,
  asked: 0,
  redisWrites: 0,
};

/** The use of one decision, on average over its kind. */
export type Usage = typeof NOTHING;

/** The use of a decision that is of each kind with some share. */
function mixed(...kinds: readonly [share: number, usage: Usage][]): Usage {
  const total = { ...NOTHING };
  for (const [share, usage] of kinds)
    for (const field of Object.keys(total) as (keyof Usage)[]) total[field] += share * usage[field];
  return total;
}

const { batch, flood, redis } = ASSUMED;
const ONE: Usage = { ...NOTHING, requests: 1, calls: 1, asked: 1 };
const DENIED: Usage = { ...ONE, commands: redis.denied };
const ADMITTED: Usage = { ...ONE, rowsWritten: 1, commits: 1, commands: redis.admitted, redisWrites: 1 };

/** The kinds of decision of the `chat` policy, an object a key, when keys come for so many decisions and go. */
export function kindsOf(perVisit: number) {
  const anonymous = { ...ADMITTED, visits: 1 / perVisit };
  const signedIn = { ...ADMITTED, calls: 2, rowsWritten: 2, commits: 2, visits: 2 / perVisit };
  // Reserved in the other object, then put back there: two rows, and a third call.
  const deniedByOne = { ...DENIED, calls: 3, rowsWritten: 2, commits: 2, visits: 1 / perVisit };
  // Each isolate asks once while it remembers a denial, and answers the rest by itself.
  const asking = (flood.isolates * 1_000) / flood.denyCacheMs / flood.perSecond;
  const inBatch = { ...signedIn, requests: 1 / batch, commands: redis.admitted - 1 + 1 / batch };
  // A call to either object, and a row a page that the events fill.
  const rowsWritten = (2 * (1 + (batch - 1) / ASSUMED.eventsAPage)) / batch;
  const shared = { calls: 2 / batch, commits: 2 / batch, rowsWritten, visits: 2 / Math.max(perVisit, batch) };
  return {
    "admitted, signed in": signedIn,
    "admitted, anonymous": anonymous,
    "denied by one of two objects": deniedByOne,
    "denied by the only object": DENIED,
    [`flood of ${flood.perSecond.toLocaleString("en")}/s on a user`]: { ...mixed([asking, deniedByOne]), requests: 1 },
    "checked, signed in": { ...ONE, calls: 2, commands: redis.checked },
    [`batches of ${batch}, one user`]: { ...inBatch, ...shared },
    [`batches of ${batch}, as many users`]: inBatch,
  } as const;
}

/** The use of an average decision of the traffic. */
export function typicalUsage(): Usage {
  const { signedIn, admitted, perVisit } = TRAFFIC;
  const kinds = kindsOf(perVisit);
  return mixed(
    [admitted * signedIn, kinds["admitted, signed in"]],
    [admitted * (1 - signedIn), kinds["admitted, anonymous"]],
    [(1 - admitted) * signedIn, kinds["denied by one of two objects"]],
    [(1 - admitted) * (1 - signedIn), DENIED],
  );
}

/** Everything that Cloudflare bills for so many decisions. `logged`: the share of invocations whose log is kept. */
export function itemsOf(usage: Usage, decisions: number, logged: number) {
  const { visit, activeMs, log, daysAMonth } = ASSUMED;
  const calls = decisions * (usage.calls + usage.visits * visit.calls);
  const commits = decisions * (usage.commits + usage.visits * visit.calls);
  const activeSeconds = (commits * activeMs.writing + (calls - commits) * activeMs.reading) / 1_000;
  const storedKbHours = decisions * usage.visits * visit.storedKb * visit.storedHours;
  const logGb = (logged * (decisions * usage.requests + calls) * log.kb) / 1e6;
  const counts: Record<keyof typeof CLOUDFLARE, number> = {
    requests: decisions * usage.requests,
    cpuMs: decisions * ASSUMED.cpuMs,
    calls,
    activeGbS: activeSeconds * ASSUMED.objectGb,
    rowsRead: calls * ASSUMED.rowsReadACall,
    rowsWritten: decisions * (usage.rowsWritten + usage.visits * visit.rows),
    storedGbMonths: storedKbHours / (daysAMonth * 24) / 1e6,
    logGb,
    logGbMonths: (logGb * log.keptDays) / daysAMonth,
  };
  return Object.entries(counts).map(([name, count]) => ({ price: CLOUDFLARE[name as keyof typeof CLOUDFLARE], count }));
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const monthly = (perDay: number) => perDay * ASSUMED.daysAMonth;
export const peakPerSecond = (perDay: number) => (perDay / 86_400) * TRAFFIC.peak;

/** A month of so many decisions a day on Cloudflare. */
export function cloudflareMonth(usage: Usage, perDay: number, logged = 0) {
  const items = itemsOf(usage, monthly(perDay), logged);
  return { items, usd: PLAN.usd + sum(items.map(({ price, count }) => costOf(price, count))) };
}

/** A million decisions more on Cloudflare, once all that is included is used up. */
export const cloudflareMillion = (usage: Usage, logged = 0) =>
  sum(itemsOf(usage, 1_000_000, logged).map(({ price, count }) => costOfMore(price, count)));

/** The same month on a Redis: on Upstash as you go and by the cheapest fixed plan, and on ElastiCache for Valkey. */
export function redisMonth(usage: Usage, perDay: number) {
  const writesPerSecond = peakPerSecond(perDay) * usage.redisWrites;
  const gb = (writesPerSecond * 2 * redis.keptHours * 3_600 * redis.eventKb) / 1e6;
  const trafficGb = (monthly(perDay) * usage.asked * redis.trafficKb) / 1e6;
  const databases = (most: typeof UPSTASH_AS_YOU_GO) =>
    Math.max(
      1,
      Math.ceil((peakPerSecond(perDay) * usage.commands) / most.commandsPerSecond),
      Math.ceil(gb / most.gb),
      Math.ceil(trafficGb / most.bandwidthGb),
    );
  const asYouGo =
    costOf(UPSTASH.commands, monthly(perDay) * usage.commands) +
    costOf(UPSTASH.bandwidthGb, trafficGb) +
    costOf(UPSTASH.storedGb, gb) +
    databases(UPSTASH_AS_YOU_GO) * UPSTASH.replicas.usd;
  const plans = UPSTASH_PLANS.map((plan) => {
    const count = databases(plan);
    return { name: plan.name, count, usd: count * (plan.usd + UPSTASH.replicas.usd) };
  });
  const { decisionsPerSecond, usableGb } = ASSUMED.shard;
  const asked = Math.ceil((peakPerSecond(perDay) * usage.asked) / decisionsPerSecond);
  const nodes = ASSUMED.shard.nodes * Math.max(1, asked, Math.ceil(gb / usableGb));
  const writtenGb = (monthly(perDay) * usage.redisWrites * redis.writtenKb) / 1e6;
  return {
    asYouGo,
    fixed: plans.reduce((best, plan) => (plan.usd < best.usd ? plan : best)),
    valkey: { nodes, usd: costOf(VALKEY.nodeHours, nodes * monthly(24)) + costOf(VALKEY.writtenGb, writtenGb) },
  };
}

/** Decisions a day until the hottest address has so many calls in the busiest second. */
export function decisionsPerDayUntilFull(callsPerSecond: number): number {
  const { signedIn, admitted, peak, hottest } = TRAFFIC;
  // A signed-in one that its user denies is reserved at the address, and put back.
  const callsAtAddress = admitted + (1 - admitted) * (1 + signedIn);
  return (callsPerSecond * 86_400) / (peak * hottest * callsAtAddress);
}

/** Objects that must share all keys so that none has more calls than so many in the busiest second. */
export function shardsNeeded(perDay: number, callsPerSecond: number): number {
  const { signedIn, admitted } = TRAFFIC;
  // Two keys of a decision live apart but for one time in so many; a denial by one of two then costs two calls more.
  const callsOver = (shards: number) =>
    peakPerSecond(perDay) * (1 + signedIn * (1 - 1 / shards) * (admitted + 2 * (1 - admitted)));
  let shards = 1;
  while (callsOver(shards) > shards * callsPerSecond)
    shards = Math.max(shards + 1, Math.ceil(callsOver(shards) / callsPerSecond));
  return shards;
}
