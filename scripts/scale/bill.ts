import { CLOUDFLARE, costOf, costOfMore, PLAN, UPSTASH, UPSTASH_AS_YOU_GO, UPSTASH_PLANS, VALKEY } from "./prices";

/** The traffic of the itemized bill. Shares are from 0 to 1. */
export const TRAFFIC = {
  signedIn: 0.5,
  admitted: 0.9,
  /** Decisions about a key in one visit: from its first event until it has been idle and is forgotten. */
  perVisit: 10,
  /** The busiest second, as a multiple of the mean. */
  peak: 3,
  /** The share of all decisions that one address has. */
  hottest: 0.001,
};

/** Measured or estimated figures, as each comment says. Estimates are rather too high than too low. */
export const ASSUMED = {
  daysAMonth: 30,
  /** Worker CPU of a decision by the policy `chat`. Estimated. */
  cpuMs: 1,
  /** How long a call by itself keeps its object active. Estimated: docs/scale.md cites 10 to 13 ms for a commit. */
  activeMs: { writing: 15, reading: 2 },
  /** An object is billed for 128 MB, whatever it uses. */
  objectGb: 0.128,
  /** Estimated: with the account in memory a call reads only the rows that its upsert looks up. */
  rowsReadACall: 2,
  /**
   * Cost of a visit beside its decisions: the object's table (2 rows), its alarm (1 row), an alarm an hour later that sets
   * another (a call, a row), and the last alarm, which deletes the page (a call, a row).
   */
  visit: { rows: 5, calls: 2, storedHours: 2, storedKb: 16 },
  /** Events on a page of 2,000 characters (docs/storage.md). So many events of a batch share one row. */
  eventsAPage: 25,
  batch: 32,
  /** A flood on one key, and the number of isolates that it reaches. */
  flood: { perSecond: 1_000, isolates: 10, denyCacheMs: 1_000 },
  /**
   * A log event: of an invocation, one for each Worker request, object call and alarm, or of a line that the code logs.
   * Published as the average: developers.cloudflare.com/observability/pricing.
   */
  log: { kb: 4.84, keptDays: 7 },
  /** As `src/counting` sends and writes. Isolates and hubs are estimated, for a million and a billion decisions a day. */
  counting: {
    objects: 4,
    sendEverySeconds: 10,
    alarmEverySeconds: 8,
    scrapeEverySeconds: 30,
    pointsASend: 8,
    senders: [
      { isolates: 10, hubs: 1 },
      { isolates: 1_500, hubs: 20 },
    ],
  },
  /**
   * Commands of a Lua script that decides as exactly as this service over the two counters of `chat`, with three limits.
   * Admitted: EVALSHA; for each counter prune, look up the id, add, expire; for each limit count; WAITAOF. Denied: the same
   * without add and expire, plus a lookup of the wait. Checked: EVALSHA; for each limit count.
   */
  redis: { admitted: 13, denied: 9, checked: 4, trafficKb: 1, eventKb: 0.2, keptHours: 1, writtenKb: 0.5 },
  /** Decisions a second on one cache.r7g.large primary. Each is a script of a dozen commands. Estimated. */
  shard: { decisionsPerSecond: 5_000, nodes: 2, usableGb: 10 },
  /** Calls a second of one object, according to Cloudflare: 200 to 500 with storage writes, a soft limit of 1,000. */
  callsPerSecond: [200, 500, 1_000],
  /** Decisions a second of one object with many decisions a call. Measured: docs/benchmarks.md, ten sessions on one key. */
  decisionsPerSecond: 30_000,
  /** Milliseconds: backend to Worker, Worker to object, commit, the pause before the first retry, and the deadline. */
  latency: { near: { edge: 5, object: 10 }, far: { edge: 5, object: 120 }, commit: 12, pause: 20, deadline: 1_000 },
  /** Backends in five regions ask hubs of their region, which ask objects in `enam`. `world.ts` simulates it. */
  world: {
    backends: 100,
    /** Isolates of the Worker in a region, ten in all as in a flood. Each leaves an overloaded object alone by itself. */
    isolates: 2,
    /**
     * Milliseconds between a hub and an object. Published for AWS's regions (N. Virginia to N. California, Ireland, São Paulo,
     * Singapore): acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html. Estimated for `enam`.
     */
    roundTripMs: { enam: 10, wnam: 73, weur: 81, sam: 120, apac: 217 },
    /** The share by which each trip may be shorter or longer. Estimated. */
    jitter: 0.1,
    /** A call takes an object's thread for 2 ms: 500 calls a second. */
    callMs: 2,
    /**
     * A decision takes it for as long as workerd works on it in docs/benchmarks.md, ten sessions on one key. That includes
     * what a hub does.
     */
    decisionMs: 0.034,
    /** An object with as many calls waiting is overloaded. Estimated: Cloudflare does not publish the number. */
    mostWaiting: 100,
    /** Messages to a hub that are billed as one request. A message has one decision here. */
    messagesARequest: 20,
    shards: 4,
  },
} as const;

const NOTHING = {
  requests: 0,
  calls: 0,
  rowsWritten: 0,
  /** Calls that end in a commit. */
  commits: 0,
  /** Visits that begin with this decision. */
  visits: 0,
  /** On a Redis instead: commands, decisions that reach it, and decisions that it writes. */
  commands: 0,
  redisDecisions: 0,
  redisWrites: 0,
};

/** The use of one decision, on average over its kind. */
export type Usage = typeof NOTHING;

/** The average use of decisions of several kinds, by their shares. */
function mixed(...kinds: readonly [share: number, usage: Usage][]): Usage {
  const total = { ...NOTHING };
  for (const [share, usage] of kinds)
    for (const field of Object.keys(total) as (keyof Usage)[]) total[field] += share * usage[field];
  return total;
}

const { batch, flood, redis } = ASSUMED;
const ONE: Usage = { ...NOTHING, requests: 1, calls: 1, redisDecisions: 1 };
const DENIED: Usage = { ...ONE, commands: redis.denied };
const ADMITTED: Usage = { ...ONE, rowsWritten: 1, commits: 1, commands: redis.admitted, redisWrites: 1 };

/** The kinds of decision by the policy `chat` with one object per key. A key is used for `perVisit` decisions a visit. */
export function kindsOf(perVisit: number) {
  const anonymous = { ...ADMITTED, visits: 1 / perVisit };
  const signedIn = { ...ADMITTED, calls: 2, rowsWritten: 2, commits: 2, visits: 2 / perVisit };
  // The other object charges and rolls back: two rows, and a third call.
  const deniedByOne = { ...DENIED, calls: 3, rowsWritten: 2, commits: 2, visits: 1 / perVisit };
  // Each isolate asks once for each lifetime of a cached denial, and answers the rest from its cache.
  const asking = (flood.isolates * 1_000) / flood.denyCacheMs / flood.perSecond;
  const inBatch = { ...signedIn, requests: 1 / batch, commands: redis.admitted - 1 + 1 / batch };
  // A call to each object, and a row for each page that the events fill.
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

/** The items that Cloudflare bills for so many decisions. `logged`: the share of invocations whose log is kept. */
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

export const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const monthly = (perDay: number) => perDay * ASSUMED.daysAMonth;
export const peakPerSecond = (perDay: number) => (perDay / 86_400) * TRAFFIC.peak;

/** The bill of a month on Cloudflare, for so many decisions a day. */
export function cloudflareMonth(usage: Usage, perDay: number, logged = 0) {
  const items = itemsOf(usage, monthly(perDay), logged);
  return { items, usd: PLAN.usd + sum(items.map(({ price, count }) => costOf(price, count))) };
}

/** The price of a million decisions on Cloudflare, once the included amounts are used up. */
export const cloudflareMillion = (usage: Usage, logged = 0) =>
  sum(itemsOf(usage, 1_000_000, logged).map(({ price, count }) => costOfMore(price, count)));

/** The bill of a month on Redis: Upstash as you go, the cheapest fixed plan of Upstash, and ElastiCache for Valkey. */
export function redisMonth(usage: Usage, perDay: number) {
  const writesPerSecond = peakPerSecond(perDay) * usage.redisWrites;
  const gb = (writesPerSecond * 2 * redis.keptHours * 3_600 * redis.eventKb) / 1e6;
  const trafficGb = (monthly(perDay) * usage.redisDecisions * redis.trafficKb) / 1e6;
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
  const shards = Math.ceil((peakPerSecond(perDay) * usage.redisDecisions) / decisionsPerSecond);
  const nodes = ASSUMED.shard.nodes * Math.max(1, shards, Math.ceil(gb / usableGb));
  const writtenGb = (monthly(perDay) * usage.redisWrites * redis.writtenKb) / 1e6;
  return {
    asYouGo,
    fixed: plans.reduce((best, plan) => (plan.usd < best.usd ? plan : best)),
    valkey: { nodes, usd: costOf(VALKEY.nodeHours, nodes * monthly(24)) + costOf(VALKEY.writtenGb, writtenGb) },
  };
}

/** Decisions a day at which the hottest address has `callsPerSecond` calls in the busiest second. */
export function decisionsPerDayUntilFull(callsPerSecond: number): number {
  const { signedIn, admitted, peak, hottest } = TRAFFIC;
  // If the user's object denies, the address's object charges and rolls back.
  const callsAtAddress = admitted + (1 - admitted) * (1 + signedIn);
  return (callsPerSecond * 86_400) / (peak * hottest * callsAtAddress);
}

/** The least number of shards with which no shard has more than `callsPerSecond` calls in the busiest second. */
export function shardsNeeded(perDay: number, callsPerSecond: number): number {
  const { signedIn, admitted } = TRAFFIC;
  // The two keys of a decision share a shard once in `shards` times. Otherwise a denial by one of them costs two calls more.
  const callsOver = (shards: number) =>
    peakPerSecond(perDay) * (1 + signedIn * (1 - 1 / shards) * (admitted + 2 * (1 - admitted)));
  let shards = 1;
  while (callsOver(shards) > shards * callsPerSecond)
    shards = Math.max(shards + 1, Math.ceil(callsOver(shards) / callsPerSecond));
  return shards;
}
