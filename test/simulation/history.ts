import { type Config, readConfig } from "../../src/config/config";
import { Denials } from "../../src/edge/denials";
import { Keys } from "../../src/edge/keys";
import { Limiter } from "../../src/edge/limiter";
import { readCheck } from "../../src/edge/request";
import { Admins } from "./admins";
import { Callers, type Isolate } from "./callers";
import { Chance } from "./chance";
import { Judge } from "./judge";
import { type Faults, type Machine, Network, NO_FAULTS } from "./network";
import { Scheduler } from "./scheduler";

/** Small limits and short windows, so that every history fills them, denies, and sees them empty again. */
const WINDOWS = [
  { name: "caller", by: ["user", "ip"], limits: ["3 per 2 seconds", "6 per 20 seconds"] },
  { name: "ip", by: ["ip"], limits: ["4 per 2 seconds"] },
];
/** What is under way beside windows, in one layer or both, of the same length and another. */
const UNDER_WAY = [
  { ...WINDOWS[0], limits: ["2 concurrent per 20 seconds", "6 per 2 seconds", "20 per 20 seconds"] },
  { ...WINDOWS[1], limits: ["9 per 5 seconds", "3 concurrent per 5 seconds"] },
];
/** What is forgotten soon: limits that override these have windows that reach far behind that. */
const SHORT = [{ ...WINDOWS[0], limits: ["3 per 2 seconds", "8 per 5 seconds"] }, WINDOWS[1]];
/** Large limits, and more to fill them: with small pages an account has dozens. */
const LARGE = [
  { ...WINDOWS[0], limits: ["40 per 5 seconds", "90 per 20 seconds", "30 concurrent per 10 seconds"] },
  { ...WINDOWS[1], limits: ["60 per 5 seconds"] },
];
/** One layer in shadow, which may count by the same key as the live one, or the other, or both. */
const inShadow = ([caller, ip]: readonly object[]) => [
  [{ ...caller, mode: "shadow" }, ip],
  [caller, { ...ip, mode: "shadow" }],
  [
    { ...caller, mode: "shadow" },
    { ...ip, mode: "shadow" },
  ],
];
const POLICIES = [
  ...[WINDOWS, WINDOWS, UNDER_WAY, [UNDER_WAY[0], WINDOWS[1]], SHORT, ...inShadow(WINDOWS), ...inShadow(UNDER_WAY)].map(
    (layers) => ({ layers, mostRequests: 5 }),
  ),
  { layers: LARGE, mostRequests: 20 },
];
/** Denials are believed not at all, as long as they are by default, and longer than the short windows. */
const VARIANTS = POLICIES.flatMap(({ layers, mostRequests }) =>
  ["key", "key", "shards:2", "shards:1"].flatMap((placement) =>
    ["0", "1000", "5000"].map((denyCacheMs) => ({
      mostRequests,
      config: readConfig({
        RATE_LIMIT_POLICIES: { small: { layers } },
        RATE_LIMIT_DEADLINE_MS: "300",
        RATE_LIMIT_DENY_CACHE_MS: denyCacheMs,
        LIMITER_PLACEMENT: placement,
      }),
    })),
  ),
);
/** Of all policies, and of what overrides them. */
const LONGEST_WINDOW_MS = 25_000;
const MOST_ISOLATES = 3;
const MOST_CALLERS = 4;
const MOST_ORDERS = 5;

/**
 * One history from its seed: a few callers, the real edge and the real ledgers, and between them a network that may do
 * anything. Returns what the judge found wrong with it: nothing.
 */
export async function runHistory(seed: number): Promise<string[]> {
  const chance = new Chance(seed);
  const scheduler = new Scheduler(chance);
  const isFaultless = chance.is(0.25);
  const network = new Network(scheduler, chance, isFaultless ? NO_FAULTS : someFaults(chance), someMachine(chance));
  const { config, mostRequests } = chance.of(VARIANTS);
  const isolates = Array.from({ length: 1 + chance.below(MOST_ISOLATES) }, (_, number) =>
    newIsolate(number, config, network, scheduler, chance.below(100_000)),
  );
  const callers = new Callers(config, isolates, network, scheduler, chance, chance.of([0, 0.5, 1]));
  const admins = new Admins(config, isolates, network, scheduler, chance);
  const requests = 1 + chance.below(mostRequests);
  const all = Promise.all([
    ...Array.from({ length: 1 + chance.below(MOST_CALLERS) }, (_, name) => callers.run(name, requests)),
    ...Array.from({ length: chance.of([0, 0, 1, 2]) }, () => admins.run(1 + chance.below(MOST_ORDERS))),
  ]);
  await scheduler.run();
  await all;
  const isUndisturbed = isFaultless && [...network.objects.values()].every(({ life }) => life === 0);
  const mistakes = new Judge(network, callers.told, admins.told, config.denyCacheMs).judge(isUndisturbed);
  return [...mistakes, ...(await afterOneWindow(network, config, scheduler))];
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
    const { limits } = await limiter.check(readCheck({ policy: "small", subject }, config));
    for (const { layer, key, standing } of limits)
      if (standing.used > 0) mistakes.push(`${layer} ${key} still has ${standing.used} in use after its window`);
  });
  const all = Promise.all(checks);
  await scheduler.run();
  await all;
  return mistakes;
}

/** Nobody's clock is anybody else's. */
function newIsolate(number: number, config: Config, network: Network, scheduler: Scheduler, offsetMs = 0): Isolate {
  const denials = new Denials(config.denyCacheMs, () => scheduler.nowMs + offsetMs);
  const limiter = new Limiter(config, network, scheduler, denials);
  return { number, limiter, keys: new Keys(config, network, scheduler, denials) };
}

function someMachine(chance: Chance): Machine {
  return {
    tickMs: chance.of([1, 100, 500]),
    memoryBytes: chance.of([1, 5_000, 1_000_000]),
    pageChars: chance.of([1, 150, 2_000]),
    sweeps: chance.of([0, 0, 0.02, 0.2]),
  };
}

function someFaults(chance: Chance): Faults {
  const sometimes = (most: number) => (chance.is(0.5) ? chance.next() * most : 0);
  return {
    lost: sometimes(0.3),
    repeated: sometimes(0.3),
    slow: sometimes(0.2),
    crash: sometimes(0.2),
    diskFull: sometimes(0.2),
    overloaded: sometimes(0.1),
    clockJump: sometimes(0.2),
  };
}
