import type { Config } from "../config/config";
import type { AnswerOf, Call, Method, Outcome, QuestionOf } from "../object/protocol";
import type { Timing } from "./deadline";
import { callObject, type DecidingStub, type ObjectNamespace } from "./objects";

/** How a decision asks objects. */
export interface ObjectCalls {
  /**
   * Asks until the object answers, or until `giveUpAtMs`. A question must be safe to repeat: a call whose answer was lost
   * may have done its work.
   * @throws the object's error, or a DeadlineError.
   */
  ask<M extends Method>(object: string, method: M, question: QuestionOf<M>, giveUpAtMs: number): Promise<AnswerOf<M>>;
}

/** Sends calls to an object as one message, and again as they were when the message is lost. */
export function sendCalls(
  objects: ObjectNamespace<DecidingStub>,
  object: string,
  calls: readonly Call[],
  giveUpAtMs: number,
  { locationHint }: Pick<Config, "locationHint">,
  timing: Timing,
): Promise<Outcome[]> {
  const deadlineMs = giveUpAtMs - timing.now();
  return callObject(objects, object, (stub) => stub.decide(calls), { locationHint, deadlineMs }, timing);
}

/** @throws the error of a call that failed. */
export function answerIn(outcome: Outcome | undefined): AnswerOf<Method> {
  if (outcome && "answer" in outcome) return outcome.answer;
  throw new Error(outcome?.error ?? "the object left a call unanswered");
}

/** Each question is a message of its own, sent at once: for a decision that comes alone. */
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
  ): Promise<AnswerOf<M>> {
    const calls = [{ method, question } as Call];
    const [outcome] = await sendCalls(this.objects, object, calls, giveUpAtMs, this.config, this.timing);
    return answerIn(outcome) as AnswerOf<M>;
  }
}
