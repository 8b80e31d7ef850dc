import { type Config, readConfig } from "../../src/config/config";
import { readCheck } from "../../src/request/read";
import { Chance } from "../../tools/chance";
import { Admins, type Duties, USUAL_DUTIES } from "./admins";
import { type Margins, mistakesInAdmissions } from "./admissions";
import { Callers, type Habits, within } from "./callers";
import { lateIn } from "./delays";
import { Judge } from "./judge";
import { type Faults, LONGEST_DELAY_MS, Network, NO_FAULTS } from "./network";
import { Scheduler } from "./scheduler";
import { type Machine, newIsolate } from "./system";

type Layers = readonly [caller: object, ip: object];

/** Small limits and short windows, so that every history fills them, denies, and sees them empty again. */
const WINDOWS: Layers = [
  { name: "caller", by: ["user", "ip"], limits: ["3 per 2 seconds", "6 per 20 seconds"] },
  { name: "ip", by: ["ip"], limits: ["4 per 2 seconds"] },
];
/** What is under way beside windows, in one layer or both, of the same length and another. */
const UNDER_WAY: Layers = [
  { ...WINDOWS[0], limits: ["2 concurrent per 20 seconds", "6 per 2 seconds", "20 per 20 seconds"] },
  { ...WINDOWS[1], limits: ["9 per 5 seconds", "3 concurrent per 5 seconds"] },
];
/** What is forgotten soon: limits that override these have windows that reach far behind that. */
const SHORT: Layers = [{ ...WINDOWS[0], limits: ["3 per 2 seconds", "8 per 5 seconds"] }, WINDOWS[1]];
/** Large limits, and more to fill them: with small pages an account has dozens. */
const LARGE: Layers = [
  { ...WINDOWS[0], limits: ["40 per 5 seconds", "90 per 20 seconds", "30 concurrent per 10 seconds"] },
  { ...WINDOWS[1], limits: ["60 per 5 seconds"] },
];
/** One layer in shadow, which may count by the same key as the live one, or the other, or both. */
const inShadow = ([caller, ip]: Layers): Layers[] => [
  [{ ...caller, mode: "shadow" }, ip],
  [caller, { ...ip, mode: "shadow" }],
  [
    { ...caller, mode: "shadow" },
    { ...ip, mode: "shadow" },
  ],
];
/** So little that two admissions are one too many, and windows that callers wait for. */
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
/** All in one account. */
const MANY = [{ ...WINDOWS[0], limits: ["100000 per second"] }];

const DEADLINE_MS = 300;
const MOST_ISOLATES = 3;
const MOST_CALLERS = 4;
/** Of all policies, of what overrides them, and of limits that callers name. */
const LONGEST_WINDOW_MS = 60_000;

const USUAL_HABITS: Habits = {
  requests: [1, 5],
  batches: 0,
  batchSize: [1, 6],
  returns: 0,
  returning: Number.POSITIVE_INFINITY,
  inline: 0,
  inlineLimits: [],
  bursts: 0,
  burstSize: [1, 1],
  users: 2,
  mostCost: 3,
  rests: 0.2,
  restMs: 6_000,
};

/** One kind of history: where it goes. */
interface Plan {
  readonly layers: readonly object[];
  readonly habits?: Partial<Habits>;
  readonly duties?: Partial<Duties>;
  readonly machine?: Partial<Machine>;
  readonly faults?: Partial<Faults>;
  readonly placements?: readonly string[];
  /** How many there are at most. */
  readonly callers?: number;
  /** All objects share one clock, and nothing ever puts it forward or back. */
  readonly isOnTime?: boolean;
  /** Callers go round by round through ids that come back. */
  readonly isOfJobs?: boolean;
}

/** How often each kind is there, of all: most histories go everywhere a little, some go far in one direction. */
const PLANS: readonly (readonly [share: number, plan: (chance: Chance) => Plan])[] = [
  [0.48, usual],
  [0.27, returning],
  [0.08, namedByCallers],
  [0.1, overridden],
  [0.055, journalled],
  [0.011, crowded],
  [0.004, ofJobs],
];

function usual(chance: Chance): Plan {
  const layers = chance.of<Layers>([
    WINDOWS,
    WINDOWS,
    UNDER_WAY,
    [UNDER_WAY[0], WINDOWS[1]],
    SHORT,
    ...inShadow(WINDOWS),
    ...inShadow(UNDER_WAY),
    LARGE,
  ]);
  return {
    layers,
    habits: {
      requests: [1, layers === LARGE ? 20 : 5],
      batches: chance.of([0, 0.5, 1]),
      returns: chance.of([0, 0, 0.1]),
    },
    duties: { admins: chance.of([0, 0, 1, 2]), forgets: chance.of([0, 0, 0.2]) },
  };
}

/** Ids that come back when they are about to be forgotten, under limits that show whatever is admitted too much. */
function returning(chance: Chance): Plan {
  return {
    layers: chance.of(TIGHT),
    callers: 3,
    habits: {
      requests: [5, 10],
      returns: 0.6,
      returning: chance.of([1, Number.POSITIVE_INFINITY]),
      mostCost: 1,
      batches: chance.of([0, 0, 0.3]),
      restMs: 4_000,
    },
    duties: {
      admins: chance.of([0, 1]),
      orders: [1, 8],
      keys: ["ip:10.0.0.0", "ip:10.0.0.1", "user:u0"],
      forgets: chance.of([0, 0.3]),
      stubborn: 0.5,
      limits: [["2 per 20 seconds"], ["3 per 15 seconds"]],
    },
    // An object that is overloaded is not asked again: what is to be rolled back there stays.
    faults: { overloaded: chance.of([0, 0, 0.1]) },
    placements: ["key", "key", "key", "shards:2"],
    isOnTime: chance.is(0.8),
  };
}

/** One counter, asked about with different limits. */
function namedByCallers(chance: Chance): Plan {
  return {
    layers: SHORT,
    habits: {
      requests: [1, 8],
      returns: chance.of([0, 0.2]),
      inline: 0.9,
      inlineLimits: [
        ["3 per 20 seconds"],
        ["50 per second"],
        ["2 per 4 seconds", "5 per 20 seconds"],
        ["4 per 60 seconds"],
      ],
      mostCost: 2,
      restMs: 8_000,
    },
    duties: { admins: chance.of([0, 0, 1]), forgets: 0.5 },
    isOnTime: chance.is(0.5),
  };
}

/** Overrides with long windows, set, lifted and set again. */
function overridden(chance: Chance): Plan {
  const layers = chance.of([SHORT, SHORT, ...TIGHT]);
  return {
    layers,
    habits: {
      requests: [3, 10],
      rests: 0.4,
      returns: chance.of([0, 0.3]),
      mostCost: layers === SHORT ? 3 : 1,
      batches: chance.of([0, 0.3]),
    },
    duties: {
      admins: 2,
      orders: [1, 8],
      stubborn: 0.8,
      restMs: 12_000,
      limits: [
        ["3 per 40 seconds"],
        ["4 per 60 seconds", "2 per 2 seconds"],
        ["6 per 30 seconds"],
        ["1 per 2 seconds"],
      ],
    },
    // What was admitted before an override is on other pages than what is admitted under it.
    machine: { sweeps: chance.of([0, 0.2, 0.5]), pageChars: chance.of([1, 1, 150, 2_000]) },
    isOnTime: chance.is(0.5),
  };
}

/** Pages in the journal: many that change at once, and little room. */
function journalled(chance: Chance): Plan {
  const layers = chance.of([WINDOWS, SHORT, LARGE, LARGE, LARGE, UNDER_WAY]);
  return {
    layers,
    habits: {
      requests: [1, 4],
      batches: chance.of([0.6, 1, 1, 1]),
      batchSize: chance.of([
        [1, 8],
        [16, 24],
        [16, 24],
      ] as const),
      returns: chance.of([0, 0.2]),
      bursts: chance.of([0, 0.3]),
      burstSize: [1, 12],
    },
    duties: { admins: chance.of([0, 1]), forgets: chance.of([0, 0.3]) },
    machine: {
      sweeps: chance.of([0, 0.02, 0.2]),
      journalChars: chance.of([300, 1_000, 3_000, 1_000_000]),
      pageChars: chance.of([1, 1, 1, 150, 2_000]),
    },
    faults: { diskFull: chance.of([0, 0.1, 0.2, 0.3]) },
    placements: ["shards:2", "shards:1", "shards:1"],
    callers: 2,
  };
}

/** So many events that what is in memory is cut: by limits of different windows, whoever sets them. */
function crowded(chance: Chance): Plan {
  const isInline = chance.is(0.3);
  return {
    layers: [
      { ...WINDOWS[0], limits: ["2 per 2 seconds"] },
      { ...WINDOWS[1], limits: ["1000 per 2 seconds"] },
    ],
    habits: {
      requests: isInline ? [2, 5] : [3, 6],
      rests: 0.8,
      users: 1,
      inline: isInline ? 1 : 0,
      inlineLimits: [["80 per 60 seconds"], ["80 per 60 seconds"], ["1000 per second"]],
      bursts: isInline ? 0.4 : 0.6,
      burstSize: [50, 100],
      mostCost: 1,
      restMs: 4_000,
    },
    duties: {
      admins: isInline ? 0 : 1,
      orders: [4, 8],
      keys: ["user:u0"],
      stubborn: 1,
      limits: [["80 per 60 seconds"]],
      restMs: 4_000,
    },
    machine: { reopenings: 0.05, memoryBytes: 1_000_000, tickMs: 1 },
    callers: 2,
    isOnTime: true,
  };
}

/** More ids than an account has an index for, which come back. */
function ofJobs(): Plan {
  return {
    layers: MANY,
    machine: { reopenings: 0, memoryBytes: 1_000_000, pageChars: 2_000, sweeps: 0.02, tickMs: 1 },
    isOnTime: true,
    isOfJobs: true,
  };
}

function somePlan(chance: Chance): Plan {
  const drawn = chance.next();
  let shares = 0;
  for (const [share, plan] of PLANS) {
    shares += share;
    if (drawn < shares) return plan(chance);
  }
  return usual(chance);
}

/** Configurations that were read before: to read one takes as long as a short history. */
const configs = new Map<string, Config>();

/** Denials are believed not at all, as long as they are by default, and longer than the short windows. */
function configOf({ layers, placements }: Plan, chance: Chance): Config {
  const variables = {
    RATE_LIMIT_POLICIES: { small: { layers } },
    RATE_LIMIT_DEADLINE_MS: String(DEADLINE_MS),
    RATE_LIMIT_DENY_CACHE_MS: chance.of(["0", "1000", "5000"]),
    LIMITER_PLACEMENT: chance.of(placements ?? ["key", "key", "shards:2", "shards:1"]),
  };
  const name = JSON.stringify(variables);
  const config = configs.get(name) ?? readConfig(variables);
  configs.set(name, config);
  return config;
}

/**
 * One history from its seed: a few callers, the real edge and the real ledgers, and between them a network that may do
 * anything. Returns what the judges found wrong with it: nothing.
 */
export async function runHistory(seed: number): Promise<string[]> {
  const chance = new Chance(seed);
  const scheduler = new Scheduler(chance);
  const plan = somePlan(chance);
  const isFaultless = plan.isOfJobs || chance.is(0.25);
  const faults = isFaultless ? NO_FAULTS : { ...someFaults(chance, plan), ...plan.faults };
  const network = new Network(scheduler, chance, faults, { ...someMachine(chance, plan), ...plan.machine });
  try {
    return await judged(plan, network, scheduler, chance, isFaultless);
  } finally {
    for (const { disk } of network.objects.values()) disk.close();
  }
}

async function judged(
  plan: Plan,
  network: Network,
  scheduler: Scheduler,
  chance: Chance,
  isFaultless: boolean,
): Promise<string[]> {
  const config = configOf(plan, chance);
  const habits = { ...USUAL_HABITS, ...plan.habits };
  const duties = { ...USUAL_DUTIES, ...plan.duties };
  const isolates = Array.from({ length: 1 + chance.below(MOST_ISOLATES) }, (_, number) =>
    newIsolate(number, config, network, scheduler, chance.below(100_000)),
  );
  const callers = new Callers(config, isolates, network, scheduler, chance, habits);
  const admins = new Admins(config, isolates, network, scheduler, chance, duties);
  const requests = within(habits.requests, chance);
  const all = Promise.all(
    plan.isOfJobs
      ? [callers.runJobs(24)]
      : [
          ...Array.from({ length: 1 + chance.below(plan.callers ?? MOST_CALLERS) }, (_, name) =>
            callers.run(name, requests),
          ),
          ...Array.from({ length: duties.admins }, () => admins.run(within(duties.orders, chance))),
        ],
  );
  await scheduler.run();
  await all;
  const margins = marginsOf(network);
  const mistakes = [
    ...network.failures,
    ...network.differences,
    ...mistakesInAdmissions(callers.attempts, admins.orders, margins),
    ...lateIn(callers.told, network, config),
  ];
  // So many deeds are judged by what was told alone.
  if (plan.isOfJobs) return mistakes;
  const isUndisturbed = isFaultless && [...network.objects.values()].every(({ life }) => life === 0);
  const judge = new Judge(network, callers.told, admins.told, admins.toldForgettings, config.denyCacheMs);
  return [...mistakes, ...judge.judge(isUndisturbed), ...(await afterOneWindow(network, config, scheduler))];
}

function marginsOf({ objects, machine, faults }: Network): Margins {
  const offsets = [...objects.values()].map(({ offsetsMs }) => offsetsMs);
  return {
    clockMs: machine.tickMs + Math.max(0, ...offsets.map(([least, most]) => most - least)),
    offsetsMs: [Math.min(0, ...offsets.map(([least]) => least)), Math.max(0, ...offsets.map(([, most]) => most))],
    lateMs: 50 + (faults.slow > 0 ? LONGEST_DELAY_MS : 0),
    attemptMs: DEADLINE_MS,
  };
}

/** Whatever was charged too much is gone one window later. */
async function afterOneWindow(network: Network, config: Config, scheduler: Scheduler): Promise<string[]> {
  network.faults = NO_FAULTS;
  const { limiter } = newIsolate(0, config, network, scheduler);
  const furthestMs = Math.max(0, ...[...network.objects.values()].map((object) => object.furthestOffsetMs));
  scheduler.nowMs += LONGEST_WINDOW_MS + 2 * furthestMs + 1_000;
  const mistakes: string[] = [];
  const checks = [
    { user: "u0", ip: "10.0.0.0" },
    { user: "u1", ip: "10.0.0.1" },
    { ip: "10.0.0.0" },
    { ip: "10.0.0.1" },
  ].map(async (subject) => {
    const asked = readCheck({ policy: "small", subject }, config);
    const { limits } = await limiter.check(asked).catch((error: unknown) => {
      mistakes.push(`nothing fails any more, and ${JSON.stringify(subject)} is answered by ${error}`);
      return { limits: [] };
    });
    for (const { layer, key, standing } of limits)
      if (standing.used > 0) mistakes.push(`${layer} ${key} still has ${standing.used} in use after its window`);
  });
  const all = Promise.all(checks);
  await scheduler.run();
  await all;
  return mistakes;
}

function someMachine(chance: Chance, { isOnTime }: Plan): Machine {
  return {
    tickMs: isOnTime ? 1 : chance.of([1, 100, 500]),
    skewMs: isOnTime ? chance.of([0, 0, 20]) : chance.of([0, 0, 20, 4_000]),
    memoryBytes: chance.of([1, 5_000, 1_000_000]),
    pageChars: chance.of([1, 150, 2_000]),
    sweeps: chance.of([0, 0, 0.02, 0.2]),
    reopenings: chance.of([0, 0, 0.05, 0.3]),
  };
}

function someFaults(chance: Chance, { isOnTime }: Plan): Faults {
  const sometimes = (most: number) => (chance.is(0.5) ? chance.next() * most : 0);
  return {
    lost: sometimes(0.3),
    repeated: sometimes(0.3),
    slow: sometimes(0.2),
    crash: sometimes(0.2),
    diskFull: sometimes(0.2),
    overloaded: sometimes(0.1),
    clockJump: isOnTime ? 0 : sometimes(0.2),
  };
}
