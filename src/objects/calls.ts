import type { Config } from "../config/config";
import type { Call, CallResult, Method, QuestionOf, VerdictOf } from "../object/protocol";
import { callObject, type DecidingStub, type ObjectNamespace } from "./binding";
import type { Timing } from "./deadline";

/** How a decision calls objects. */
export interface ObjectCalls {
  /**
   * Asks, and retries until `giveUpAtMs`. A question must be safe to repeat: a call whose answer was lost may have done
   * its work.
   * @throws the object's error, a DeadlineError, or a NotSentError.
   */
  ask<M extends Method>(object: string, method: M, question: QuestionOf<M>, giveUpAtMs: number): Promise<VerdictOf<M>>;
}

/** The call was refused before it was sent, so the object has done nothing. */
export class NotSentError extends Error {
  override readonly name = "NotSentError";
}

/** Sends calls to an object as one message. A message that is lost is sent again unchanged. */
export function sendCalls(
  objects: ObjectNamespace<DecidingStub>,
  object: string,
  calls: readonly Call[],
  giveUpAtMs: number,
  { locationHint }: Pick<Config, "locationHint">,
  timing: Timing,
): Promise<CallResult[]> {
  const deadlineMs = giveUpAtMs - timing.now();
  return callObject(objects, object, (stub) => stub.decide(calls), { locationHint, deadlineMs }, timing);
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
  ) {}

  async ask<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
    giveUpAtMs: number,
  ): Promise<VerdictOf<M>> {
    const calls = [{ method, question } as Call];
    const [result] = await sendCalls(this.objects, object, calls, giveUpAtMs, this.config, this.timing);
    return verdictIn(result) as VerdictOf<M>;
  }
}
