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
