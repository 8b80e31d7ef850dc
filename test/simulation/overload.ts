import { ModelledObject } from "../../scripts/scale/modelled-object";
import { readConfig } from "../../src/config/config";
import type { Call } from "../../src/object/protocol";
import type { ObjectNamespace } from "../../src/objects/binding";
import { readConsume } from "../../src/request/read";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { Ledgers } from "./ledgers";
import { newIsolate } from "./system";

const ISOLATES = 20;
export const USERS = 10;
export const MAX = 60;
export const WINDOW_MS = 2_000;
/** The modelled object takes a call each 2 ms. */
export const CAPACITY = 500;
export const SECONDS = { before: 1, overload: 6, after: 4 };

export interface Second {
  asked: number;
  decided: number;
  /** Calls that the object refused because too many waited. */
  overloaded: number;
}

/** Isolates ask one object over HTTP: less than it takes, then three times as much, then less again. */
export async function overloadOneObject() {
  const chance = new Chance(1);
  const scheduler = new Scheduler(chance);
  const startMs = scheduler.nowMs;
  const config = readConfig({
    RATE_LIMIT_POLICIES: { p: { layers: [{ name: "user", by: ["user"], limits: [`${MAX} per 2 seconds`] }] } },
    RATE_LIMIT_DENY_CACHE_MS: "0",
    LIMITER_PLACEMENT: "user=shards:1,key",
  });
  const total = SECONDS.before + SECONDS.overload + SECONDS.after;
  const seconds: Second[] = Array.from({ length: total }, () => ({ asked: 0, decided: 0, overloaded: 0 }));
  const secondAt = (ms: number) => seconds[Math.min(total - 1, Math.floor((ms - startMs) / 1_000))] as Second;

  const ledgers = new Ledgers();
  const admittedAtMs = new Map<string, number[]>();
  const object = new ModelledObject(scheduler, undefined, (calls) => {
    const results = ledgers.decide("user-shard:0", calls, scheduler.nowMs);
    for (const [i, { question }] of calls.entries()) {
      const result = results[i];
      const key = question.counters[0]?.key ?? "";
      if (result && "verdict" in result && result.verdict.allowed)
        admittedAtMs.set(key, [...(admittedAtMs.get(key) ?? []), result.verdict.atMs]);
    }
    return results;
  });
  const namespace = {
    getByName: () => ({
      decide: async (calls: readonly Call[]) => {
        await scheduler.sleep(5);
        try {
          return await object.decide(calls);
        } catch (error) {
          secondAt(scheduler.nowMs).overloaded++;
          throw error;
        } finally {
          await scheduler.sleep(5);
        }
      },
    }),
  } as unknown as ObjectNamespace;
  const isolates = Array.from({ length: ISOLATES }, (_, i) => newIsolate(i, config, namespace, scheduler));

  let [told, nextMs] = [0, 0];
  for (const [s, second] of seconds.entries()) {
    const isOverload = s >= SECONDS.before && s < SECONDS.before + SECONDS.overload;
    const perSecond = isOverload ? 3 * CAPACITY : 0.6 * CAPACITY;
    for (nextMs = s * 1_000; nextMs < (s + 1) * 1_000; nextMs += (-Math.log(1 - chance.next()) * 1_000) / perSecond)
      scheduler.after(nextMs, async () => {
        second.asked++;
        const request = readConsume({ policy: "p", subject: { user: `u${chance.below(USERS)}` } }, {}, config);
        const decision = await chance
          .of(isolates)
          .limiter.consume(request, () => {})
          .catch(() => undefined);
        if (!decision) return;
        second.decided++;
        if (decision.allowed) told++;
      });
  }
  await scheduler.run();
  return { seconds, told, admittedAtMs };
}
