import { env, runInDurableObject } from "cloudflare:test";
import { longestWindowMs } from "../../src/core/limit";
import { Ledger } from "../../src/object/ledger";
import type { LimiterObject } from "../../src/object/object";
import type {
  Call,
  CallResult,
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  Counter,
  EventQuestion,
  Method,
  ObjectVerdict,
  Question,
  QuestionOf,
  VerdictOf,
} from "../../src/object/protocol";
import type { Bindings } from "./target";

export const objects = (env as unknown as Bindings).LIMITER_OBJECTS;
/** In the future, since alarms use the real clock and must not ring by themselves. */
export const START_MS = Date.UTC(2040, 0, 1);
export const HOUR_MS = 3_600_000;

export const caller = (key: string, max = 5): Counter => ({
  layer: "caller",
  key,
  limits: [
    { max, windowMs: 60_000 },
    { max: 12 * max, windowMs: 3_600_000 },
  ],
});
/** A concurrent limit, and a limit on costs that is never used up. */
export const job = (key: string, max = 2): Counter => ({
  layer: "job",
  key,
  limits: [
    { kind: "concurrent", max, windowMs: 300_000 },
    { max: 1_000_000, windowMs: 3_600_000 },
  ],
});
export const ip = (key: string, max = 30): Counter => ({ layer: "ip", key, limits: [{ max, windowMs: 60_000 }] });

/** A charge whose only part is in this object. */
export function charge(counters: Counter[], cost = 1): Charge {
  const windowMs = Math.max(...counters.map(({ limits }) => longestWindowMs(limits)));
  return {
    id: crypto.randomUUID(),
    identity: "s",
    attempt: "a",
    windowMs,
    policy: "chat",
    cost,
    counters,
    isOnlyPart: true,
  };
}

export function newObject(): DurableObjectStub<LimiterObject> {
  return objects.getByName(crypto.randomUUID());
}

export const inside = <T>(
  stub: DurableObjectStub<LimiterObject>,
  work: (storage: DurableObjectStorage) => T | Promise<T>,
) => runInDurableObject(stub, (_, state) => work(state.storage));

export const countPages = (stub: DurableObjectStub<LimiterObject>) =>
  inside(stub, ({ sql }) =>
    sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'pages_v1'").toArray().length === 0
      ? undefined
      : Number(sql.exec("SELECT count(*) AS pages FROM pages_v1").one().pages),
  );

/** A ledger with a method for each call, which it decides as objects do: by `decide`. A call that fails throws. */
export class TestLedger extends Ledger {
  check(question: Question, wallMs: number): ObjectVerdict {
    return this.#ask("check", question, wallMs);
  }

  consume(charge: Charge, wallMs: number): ChargeVerdict {
    return this.#ask("consume", charge, wallMs);
  }

  rollBack(charge: Charge, wallMs: number): ObjectVerdict {
    return this.#ask("rollBack", charge, wallMs);
  }

  settle(question: EventQuestion, wallMs: number): ChangeVerdict {
    return this.#ask("settle", question, wallMs);
  }

  release(question: EventQuestion, wallMs: number): ChangeVerdict {
    return this.#ask("release", question, wallMs);
  }

  #ask<M extends Method>(method: M, question: QuestionOf<M>, wallMs: number): VerdictOf<M> {
    const [result] = this.decide([{ method, question } as Call], wallMs) as CallResult<VerdictOf<M>>[];
    if (result && "verdict" in result) return result.verdict;
    throw new Error(result?.error);
  }
}
