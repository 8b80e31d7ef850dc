import { type Config, readConfig } from "../../src/config/config";
import { Denials } from "../../src/edge/denials";
import { Limiter } from "../../src/edge/limiter";
import { Refusal } from "../../src/edge/refusal";
import { readCheck, readConsume, readSettle } from "../../src/edge/request";
import { digestOf, presentIn } from "../../src/edge/subject";
import { Judge, type Told } from "./judge";
import { type Faults, Network, NO_FAULTS } from "./network";
import { Chance, Scheduler } from "./scheduler";

/** Small limits and short windows, so that every history fills them, denies, and sees them empty again. */
const POLICIES = JSON.stringify({
  small: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["3 per 2 seconds", "6 per 20 seconds"] },
      { name: "ip", by: ["ip"], limits: ["4 per 2 seconds"] },
    ],
  },
});
const CONFIGS = ["key", "key", "shards:2", "shards:1"].map((placement) =>
  readConfig({ RATE_LIMIT_POLICIES: POLICIES, RATE_LIMIT_DEADLINE_MS: "300", LIMITER_PLACEMENT: placement }),
);
const LONGEST_WINDOW_MS = 20_000;
const MOST_CALLERS = 4;
const MOST_REQUESTS = 5;

/**
 * One history from its seed: a few callers, the real edge and the real ledgers, and between them a network that may do
 * anything. Returns what the judge found wrong with it: nothing.
 */
export async function runHistory(seed: number): Promise<string[]> {
  const chance = new Chance(seed);
  const scheduler = new Scheduler(chance);
  const isFaultless = chance.is(0.25);
  const faults = isFaultless ? NO_FAULTS : someFaults(chance);
  const network = new Network(scheduler, chance, faults, chance.of([1, 100, 500]));
  const config = chance.of(CONFIGS);
  const limiter = new Limiter(config, network, scheduler, new Denials(config.denyCacheMs, scheduler.now));
  const told: Told[] = [];
  const requests = 1 + chance.below(MOST_REQUESTS);
  let isUndisturbed = isFaultless;

  const digest = (subject: Record<string, string>) =>
    digestOf(presentIn(subject, config.attributes, config.ipv6PrefixBits), config.attributes);
  const tell = (id: string, subject: Record<string, string>, what: Told["what"]) =>
    told.push({ id, subject: digest(subject), after: network.deeds.length, what });

  /** One attempt: true if the caller knows how it ended. */
  async function attempt(id: string, subject: Record<string, string>, cost: number): Promise<boolean> {
    try {
      const { allowed, replayed } = await limiter.consume(
        readConsume({ policy: "small", subject, cost }, { idempotencyKey: id }, config),
        () => {},
      );
      if (allowed) tell(id, subject, { kind: "consumed", replayed });
      return true;
    } catch (error) {
      if (error instanceof Refusal && error.kind === "unreachable") return false;
      throw error;
    }
  }

  async function caller(name: number): Promise<void> {
    for (let request = 0; request < requests; request++) {
      await scheduler.sleep(chance.below(chance.is(0.2) ? 6_000 : 400));
      const ip = `10.0.0.${chance.below(2)}`;
      const subject: Record<string, string> = chance.is(0.6) ? { user: `u${chance.below(2)}`, ip } : { ip };
      const cost = 1 + chance.below(3);
      const id = `${name}-${request}`;
      if (chance.is(0.15)) await limiter.check(readCheck({ policy: "small", subject, cost }, config)).catch(() => {});
      const attempts = 1 + chance.below(3);
      const underWay: Promise<boolean>[] = [];
      for (let tries = 0; tries < attempts; tries++) {
        const one = attempt(id, subject, cost);
        underWay.push(one);
        // Some wait for the answer, some hang up and try again, some never wait at all.
        if (chance.is(0.5)) await Promise.race([one, scheduler.sleep(chance.below(100))]);
        else if (chance.is(0.7) && (await one)) break;
      }
      await Promise.all(underWay);
      const isAdmitted = told.some((one) => one.id === id);
      if (!isAdmitted || chance.is(0.6)) continue;
      const settled = chance.below(6);
      for (let tries = 0; tries < 6; tries++) {
        const isDone = await limiter.settle(readSettle({ policy: "small", subject, id, cost: settled }, config)).then(
          () => true,
          () => false,
        );
        if (isDone) tell(id, subject, { kind: "settled", cost: settled });
        if (isDone && chance.is(0.7)) break;
      }
    }
  }

  const callers = Array.from({ length: 1 + chance.below(MOST_CALLERS) }, (_, name) => caller(name));
  const all = Promise.all(callers);
  await scheduler.run();
  await all;
  isUndisturbed &&= [...network.objects.values()].every(({ life }) => life === 0);
  const mistakes = new Judge(network, told).judge(isUndisturbed);
  return [...mistakes, ...(await afterOneWindow(network, config, scheduler))];
}

/** Whatever was charged too much is gone one window later. */
async function afterOneWindow(network: Network, config: Config, scheduler: Scheduler): Promise<string[]> {
  network.faults = NO_FAULTS;
  const limiter = new Limiter(config, network, scheduler, new Denials(config.denyCacheMs, scheduler.now));
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

function someFaults(chance: Chance): Faults {
  const sometimes = (most: number) => (chance.is(0.5) ? chance.next() * most : 0);
  return {
    lost: sometimes(0.3),
    repeated: sometimes(0.3),
    slow: sometimes(0.2),
    crash: sometimes(0.2),
    overloaded: sometimes(0.1),
    clockJump: sometimes(0.2),
  };
}
