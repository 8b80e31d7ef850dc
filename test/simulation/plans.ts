import { type Config, readConfig } from "../../src/config/config";
import type { Chance } from "../../tools/chance";
import type { Duties } from "./admins";
import type { Habits } from "./callers";
import type { Faults } from "./network";
import type { Machine } from "./system";

/** The kinds of histories. A kind leans in one direction: its layers, its callers, its admins, its machine, its faults. */

type Layers = readonly [caller: object, ip: object];

/** Small limits and short windows: every history fills them, is denied, and sees them empty again. */
const WINDOWS: Layers = [
  { name: "caller", by: ["user", "ip"], limits: ["3 per 2 seconds", "6 per 20 seconds"] },
  { name: "ip", by: ["ip"], limits: ["4 per 2 seconds"] },
];
/** Concurrent limits beside limits on costs, with windows of the same length and of others. */
const CONCURRENT: Layers = [
  { ...WINDOWS[0], limits: ["2 concurrent per 20 seconds", "6 per 2 seconds", "20 per 20 seconds"] },
  { ...WINDOWS[1], limits: ["9 per 5 seconds", "3 concurrent per 5 seconds"] },
];
/** Short retention: overriding limits have windows far longer than these. */
const SHORT: Layers = [{ ...WINDOWS[0], limits: ["3 per 2 seconds", "8 per 5 seconds"] }, WINDOWS[1]];
/** Large limits, and as many events: with small pages an account has dozens of pages. */
const LARGE: Layers = [
  { ...WINDOWS[0], limits: ["40 per 5 seconds", "90 per 20 seconds", "30 concurrent per 10 seconds"] },
  { ...WINDOWS[1], limits: ["60 per 5 seconds"] },
];
/** The same layers with one of them in shadow, or both. Both may count by the same key. */
const inShadow = ([caller, ip]: Layers): Layers[] => [
  [{ ...caller, mode: "shadow" }, ip],
  [caller, { ...ip, mode: "shadow" }],
  [
    { ...caller, mode: "shadow" },
    { ...ip, mode: "shadow" },
  ],
];
/** Limits so low that one admission too many shows at once, and windows that callers wait for. */
const TIGHT: readonly Layers[] = [
  [
    { ...WINDOWS[0], limits: ["1 per 4 seconds"] },
    { ...WINDOWS[1], limits: ["1 per 4 seconds"] },
  ],
  [
    { ...WINDOWS[0], limits: ["1 per 4 seconds"] },
    { ...WINDOWS[1], limits: ["2 per 4 seconds"] },
  ],
  [
    { ...WINDOWS[0], limits: ["2 per 3 seconds", "3 per 6 seconds"] },
    { ...WINDOWS[1], limits: ["2 per 6 seconds"] },
  ],
  [
    { ...WINDOWS[0], limits: ["1 per 2 seconds", "6 per 10 seconds"] },
    { ...WINDOWS[1], limits: ["1 per 3 seconds"] },
  ],
];
/** A single layer, so that all events are in one account, and a limit that never denies. */
const GENEROUS = [{ ...WINDOWS[0], limits: ["100000 per second"] }];

/** Where keys live, unless a plan says otherwise. */
const PLACEMENTS = ["key", "key", "shards:2", "shards:1", "ip=shards:2,user=shards:1,key", "ip=key,shards:2"];

export const DEADLINE_MS = 300;
/** The longest window of all policies, overrides and inline limits. */
export const LONGEST_WINDOW_MS = 60_000;

export const USUAL_HABITS: Habits = {
  requests: [1, 5],
  batchShare: 0,
  hubShare: 0.4,
  batchSize: [1, 6],
  returnShare: 0,
  mostReturning: Number.POSITIVE_INFINITY,
  inlineShare: 0,
  inlineLimits: [],
  burstShare: 0,
  burstSize: [1, 1],
  users: 2,
  mostCost: 3,
  byLayerShare: 0.3,
  restShare: 0.2,
  restMs: 6_000,
};

export interface Plan {
  readonly layers: readonly object[];
  readonly habits?: Partial<Habits>;
  readonly duties?: Partial<Duties>;
  readonly machine?: Partial<Machine>;
  readonly faults?: Partial<Faults>;
  readonly placements?: readonly string[];
  readonly mostCallers?: number;
  /** Clocks never jump, tick by the millisecond, and are at most 20 ms apart. */
  readonly hasSteadyClocks?: boolean;
  /** Callers send the same ids round after round. */
  readonly runsJobs?: boolean;
}

/** The share of each kind. Most histories mix everything, some lean far in one direction. */
const PLANS: readonly (readonly [share: number, planOf: (chance: Chance) => Plan])[] = [
  [0.48, mixed],
  [0.27, returningIds],
  [0.08, callerNamedLimits],
  [0.1, overridden],
  [0.055, journalled],
  [0.011, crowded],
  [0.004, reusedIds],
];

function mixed(chance: Chance): Plan {
  const layers = chance.of<Layers>([
    WINDOWS,
    WINDOWS,
    CONCURRENT,
    [CONCURRENT[0], WINDOWS[1]],
    SHORT,
    ...inShadow(WINDOWS),
    ...inShadow(CONCURRENT),
    LARGE,
  ]);
  return {
    layers,
    habits: {
      requests: [1, layers === LARGE ? 20 : 5],
      batchShare: chance.of([0, 0.5, 1]),
      returnShare: chance.of([0, 0, 0.1]),
    },
    duties: { admins: chance.of([0, 0, 1, 2]), forgetShare: chance.of([0, 0, 0.2]) },
    // Counters that hold so few events deny before their limits do.
    machine: { mostEvents: chance.of([undefined, undefined, undefined, 2, 5]) },
  };
}

/** Ids that are reused around the instant at which they are forgotten, under limits that show every over-admission. */
function returningIds(chance: Chance): Plan {
  return {
    layers: chance.of(TIGHT),
    mostCallers: 3,
    habits: {
      requests: [5, 10],
      returnShare: 0.6,
      mostReturning: chance.of([1, Number.POSITIVE_INFINITY]),
      mostCost: 1,
      batchShare: chance.of([0, 0, 0.3]),
      restMs: 4_000,
    },
    duties: {
      admins: chance.of([0, 1]),
      tasks: [1, 8],
      keys: ["ip:10.0.0.0", "ip:10.0.0.1", "user:u0"],
      forgetShare: chance.of([0, 0.3]),
      stubbornShare: 0.5,
      limits: [["2 per 20 seconds"], ["3 per 15 seconds"]],
    },
    // An overloaded object is not asked again, so a charge that should be rolled back there stays.
    faults: { overloaded: chance.of([0, 0, 0.1]) },
    placements: ["key", "key", "key", "shards:2", "user=shards:2,key"],
    hasSteadyClocks: chance.is(0.8),
  };
}

/** Inline limits: the same counter is asked about with different limits. */
function callerNamedLimits(chance: Chance): Plan {
  return {
    layers: SHORT,
    habits: {
      requests: [1, 8],
      returnShare: chance.of([0, 0.2]),
      inlineShare: 0.9,
      inlineLimits: [
        ["3 per 20 seconds"],
        ["50 per second"],
        ["2 per 4 seconds", "5 per 20 seconds"],
        ["4 per 60 seconds"],
      ],
      mostCost: 2,
      restMs: 8_000,
    },
    duties: { admins: chance.of([0, 0, 1]), forgetShare: 0.5 },
    hasSteadyClocks: chance.is(0.5),
    machine: { mostEvents: chance.of([undefined, 4]) },
  };
}

/** Overrides with long windows that are set, lifted and set again. */
function overridden(chance: Chance): Plan {
  const layers = chance.of([SHORT, SHORT, ...TIGHT]);
  return {
    layers,
    habits: {
      requests: [3, 10],
      restShare: 0.4,
      returnShare: chance.of([0, 0.3]),
      mostCost: layers === SHORT ? 3 : 1,
      batchShare: chance.of([0, 0.3]),
    },
    duties: {
      admins: 2,
      tasks: [1, 8],
      stubbornShare: 0.8,
      restMs: 12_000,
      limits: [
        ["3 per 40 seconds"],
        ["4 per 60 seconds", "2 per 2 seconds"],
        ["6 per 30 seconds"],
        ["1 per 2 seconds"],
      ],
    },
    // Events from before an override are on other pages than events under it.
    machine: {
      sweepShare: chance.of([0, 0.2, 0.5]),
      pageChars: chance.of([1, 1, 150, 2_000]),
      mostEvents: chance.of([undefined, undefined, 3]),
    },
    hasSteadyClocks: chance.is(0.5),
  };
}

/** Pages in the journal: many pages change at once, and the disk is often full. */
function journalled(chance: Chance): Plan {
  const layers = chance.of([WINDOWS, SHORT, LARGE, LARGE, LARGE, CONCURRENT]);
  return {
    layers,
    habits: {
      requests: [1, 4],
      batchShare: chance.of([0.6, 1, 1, 1]),
      batchSize: chance.of([
        [1, 8],
        [16, 24],
        [16, 24],
      ] as const),
      returnShare: chance.of([0, 0.2]),
      burstShare: chance.of([0, 0.3]),
      burstSize: [1, 12],
    },
    duties: { admins: chance.of([0, 1]), forgetShare: chance.of([0, 0.3]) },
    machine: {
      sweepShare: chance.of([0, 0.02, 0.2]),
      journalChars: chance.of([300, 1_000, 3_000, 1_000_000]),
      pageChars: chance.of([1, 1, 1, 150, 2_000]),
    },
    faults: { diskFull: chance.of([0, 0.1, 0.2, 0.3]) },
    placements: ["shards:2", "shards:1", "shards:1", "ip=shards:1,shards:1"],
    mostCallers: 2,
  };
}

/** So many events that the log in memory is cut, under limits with different windows that admins or callers set. */
function crowded(chance: Chance): Plan {
  const isInline = chance.is(0.3);
  return {
    layers: [
      { ...WINDOWS[0], limits: ["2 per 2 seconds"] },
      { ...WINDOWS[1], limits: ["1000 per 2 seconds"] },
    ],
    habits: {
      requests: isInline ? [2, 5] : [3, 6],
      restShare: 0.8,
      users: 1,
      inlineShare: isInline ? 1 : 0,
      inlineLimits: [["80 per 60 seconds"], ["80 per 60 seconds"], ["1000 per second"]],
      burstShare: isInline ? 0.4 : 0.6,
      burstSize: [50, 100],
      mostCost: 1,
      restMs: 4_000,
    },
    duties: {
      admins: isInline ? 0 : 1,
      tasks: [4, 8],
      keys: ["user:u0"],
      stubbornShare: 1,
      limits: [["80 per 60 seconds"]],
      restMs: 4_000,
    },
    machine: { reopenShare: 0.05, memoryBytes: 1_000_000, tickMs: 1 },
    mostCallers: 2,
    hasSteadyClocks: true,
  };
}

/** Reused ids, more of them than an account keeps an index for. */
function reusedIds(): Plan {
  return {
    layers: GENEROUS,
    machine: { reopenShare: 0, memoryBytes: 1_000_000, pageChars: 2_000, sweepShare: 0.02, tickMs: 1 },
    hasSteadyClocks: true,
    runsJobs: true,
  };
}

export function drawPlan(chance: Chance): Plan {
  const drawn = chance.next();
  let shares = 0;
  for (const [share, planOf] of PLANS) {
    shares += share;
    if (drawn < shares) return planOf(chance);
  }
  return mixed(chance);
}

/** Configurations by their variables. Reading one takes as long as a short history. */
const configs = new Map<string, Config>();

/** Denials are cached not at all, as long as by default, or longer than the short windows. */
export function drawConfig({ layers, placements }: Plan, chance: Chance): Config {
  const variables = {
    RATE_LIMIT_POLICIES: { small: { layers } },
    RATE_LIMIT_DEADLINE_MS: String(DEADLINE_MS),
    RATE_LIMIT_DENY_CACHE_MS: chance.of(["0", "1000", "5000"]),
    LIMITER_PLACEMENT: chance.of(placements ?? PLACEMENTS),
  };
  const name = JSON.stringify(variables);
  const config = configs.get(name) ?? readConfig(variables);
  configs.set(name, config);
  return config;
}

export function drawMachine(chance: Chance, { hasSteadyClocks }: Plan): Machine {
  return {
    tickMs: hasSteadyClocks ? 1 : chance.of([1, 100, 500]),
    skewMs: hasSteadyClocks ? chance.of([0, 0, 20]) : chance.of([0, 0, 20, 4_000]),
    memoryBytes: chance.of([1, 5_000, 1_000_000]),
    pageChars: chance.of([1, 150, 2_000]),
    sweepShare: chance.of([0, 0, 0.02, 0.2]),
    reopenShare: chance.of([0, 0, 0.05, 0.3]),
  };
}

export function drawFaults(chance: Chance, { hasSteadyClocks }: Plan): Faults {
  const sometimes = (most: number) => (chance.is(0.5) ? chance.next() * most : 0);
  return {
    lost: sometimes(0.3),
    repeated: sometimes(0.3),
    slow: sometimes(0.2),
    crash: sometimes(0.2),
    diskFull: sometimes(0.2),
    overloaded: sometimes(0.1),
    clockJump: hasSteadyClocks ? 0 : sometimes(0.2),
    hubDeath: sometimes(0.3),
  };
}
