import type { Config } from "../config/config";
import type { Call, CallResult, Method, QuestionOf, VerdictOf } from "../object/protocol";
import { callObject, type DecidingStub, type ObjectNamespace } from "./binding";
import { Breakers, LeftAloneError } from "./breakers";
import type { Timing } from "./timing";

/**
 * Is told once how a question or a decision ended: `answered` or `failed`. Callbacks, since a chain of promises took a sixth of
 * the time of a decision. If `answered` throws, its caller calls `failed`.
 */
export interface Hearer<V> {
  answered(verdict: V): void;
  failed(error: unknown): void;
}

/** Asks with a hearer, and resolves or rejects to what it is told. */
export function heard<V>(ask: (hearer: Hearer<V>) => void): Promise<V> {
  return new Promise((answered, failed) => ask({ answered, failed }));
}

/** Tells a hearer how a promise ends. */
export function hear<V>(promise: Promise<V>, hearer: Hearer<V>): void {
  promise.then((verdict) => hearer.answered(verdict)).catch((error: unknown) => hearer.failed(error));
}

/** How decisions call objects. */
export interface ObjectCalls {
  /**
   * Asks, and retries until `giveUpAtMs`. A question must be safe to repeat: a call whose answer was lost may have done
   * its work. Calls of one batch go by the position of their decision. The hearer hears the object's error, a
   * DeadlineError, or a NotSentError.
   */
  ask<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
    giveUpAtMs: number,
    position: number,
    hearer: Hearer<VerdictOf<M>>,
  ): void;
}

/** Sends calls to an object as one message. A message that is lost is sent again unchanged. */
export async function sendCalls(
  objects: ObjectNamespace<DecidingStub>,
  object: string,
  calls: readonly Call[],
  giveUpAtMs: number,
  { locationHint }: Pick<Config, "locationHint">,
  timing: Timing,
  breakers: Breakers,
): Promise<CallResult[]> {
  const sentAtMs = timing.now();
  const deadlineMs = giveUpAtMs - sentAtMs;
  try {
    const decide = (stub: DecidingStub) => stub.decide(calls);
    const results = await callObject(objects, object, decide, { locationHint, deadlineMs }, timing);
    breakers.onAnswer(object, sentAtMs);
    return results;
  } catch (error) {
    breakers.onError(object, sentAtMs, error);
    throw error;
  }
}

/** @throws the error of a call that failed. */
export function verdictIn(result: CallResult | undefined): VerdictOf<Method> {
  if (result && "verdict" in result) return result.verdict;
  throw new Error(result?.error ?? "the object left a call unanswered");
}

/** Sends each question as a message of its own, at once: for a decision outside a batch. */
export class DirectCalls implements ObjectCalls {
  constructor(
    private readonly objects: ObjectNamespace<DecidingStub>,
    private readonly config: Pick<Config, "locationHint">,
    private readonly timing: Timing,
    private readonly breakers = new Breakers(timing),
  ) {}

  ask<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
    giveUpAtMs: number,
    _position: number,
    hearer: Hearer<VerdictOf<M>>,
  ): void {
    const { objects, config, timing, breakers } = this;
    if (method !== "rollBack" && !breakers.admits(object)) {
      hearer.failed(new LeftAloneError(object));
      return;
    }
    const calls = [{ method, question } as Call];
    const sent = sendCalls(objects, object, calls, giveUpAtMs, config, timing, breakers);
    hear(
      sent.then(([result]) => verdictIn(result) as VerdictOf<M>),
      hearer,
    );
  }
}
