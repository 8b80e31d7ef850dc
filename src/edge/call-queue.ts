import type { Config } from "../config/config";
import type { AnswerOf, Call, Method, Outcome, QuestionOf } from "../object/protocol";
import { answerIn, type ObjectCalls, sendCalls } from "./calls";
import { DeadlineError, type Timing } from "./deadline";
import type { DecidingStub, ObjectNamespace } from "./objects";

interface QueuedCall {
  readonly position: number;
  readonly call: Call;
  readonly giveUpAtMs: number;
  readonly resolve: (outcome: Outcome | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Sends calls as one message, until they are answered or it is given up. */
type Send = (calls: readonly Call[], giveUpAtMs: number) => Promise<Outcome[]>;

/**
 * What is asked of one object: one message in flight, the rest waits and goes together in the next. Retries happen below
 * the queue, so they change no order. Each call has its own deadline, at which it alone is rejected; once all calls of
 * the message in flight are given up, the next message goes.
 */
export class CallQueue {
  readonly #waiting = new Set<QueuedCall>();
  #isBusy = false;

  constructor(
    private readonly send: Send,
    private readonly timing: Timing,
    /** Nothing is in flight, and nothing waits. */
    private readonly whenIdle: () => void = () => {},
  ) {}

  ask(position: number, call: Call, giveUpAtMs: number): Promise<AnswerOf<Method>> {
    const outcome = new Promise<Outcome | undefined>((resolve, reject) => {
      const giveUp = () => {
        this.#waiting.delete(queued);
        reject(new DeadlineError("the object did not answer within the deadline"));
      };
      const cancel = this.timing.after(giveUpAtMs - this.timing.now(), giveUp);
      const queued: QueuedCall = {
        position,
        call,
        giveUpAtMs,
        resolve: (outcome) => {
          cancel();
          resolve(outcome);
        },
        reject: (error) => {
          cancel();
          reject(error);
        },
      };
      this.#waiting.add(queued);
      if (!this.#isBusy) this.#sendSoon();
    });
    return outcome.then(answerIn);
  }

  /** After a turn, in which all decisions that were just answered ask for what they need next. */
  #sendSoon(): void {
    this.#isBusy = true;
    this.timing.after(0, () => void this.#sendNext());
  }

  async #sendNext(): Promise<void> {
    const message = [...this.#waiting].sort(inOrder);
    this.#waiting.clear();
    if (message.length > 0) await this.#exchange(message);
    this.#isBusy = false;
    if (this.#waiting.size > 0) this.#sendSoon();
    else this.whenIdle();
  }

  async #exchange(message: readonly QueuedCall[]): Promise<void> {
    const giveUpAtMs = Math.max(...message.map(({ giveUpAtMs }) => giveUpAtMs));
    try {
      const outcomes = await this.send(
        message.map(({ call }) => call),
        giveUpAtMs,
      );
      for (const [i, { resolve }] of message.entries()) resolve(outcomes[i]);
    } catch (error) {
      for (const { reject } of message) reject(error);
    }
  }
}

/** Rollbacks first: what is about to be rolled back stands in nobody's way. All else by position. */
function inOrder(one: QueuedCall, other: QueuedCall): number {
  const [isRollback, isOtherRollback] = [one, other].map(({ call }) => call.method === "undo");
  return Number(isOtherRollback) - Number(isRollback) || one.position - other.position;
}

/** The objects, each with a queue, to decisions that share them: those of one batch. */
export class CallQueues {
  readonly #queues = new Map<string, CallQueue>();

  constructor(
    private readonly objects: ObjectNamespace<DecidingStub>,
    private readonly config: Pick<Config, "locationHint">,
    private readonly timing: Timing,
  ) {}

  /** The objects, to the decision at this position. */
  at(position: number): ObjectCalls {
    return {
      ask: <M extends Method>(object: string, method: M, question: QuestionOf<M>, giveUpAtMs: number) => {
        const answer = this.#queueOf(object).ask(position, { method, question } as Call, giveUpAtMs);
        return answer as Promise<AnswerOf<M>>;
      },
    };
  }

  #queueOf(object: string): CallQueue {
    const known = this.#queues.get(object);
    if (known) return known;
    const send: Send = (calls, giveUpAtMs) =>
      sendCalls(this.objects, object, calls, giveUpAtMs, this.config, this.timing);
    const queue = new CallQueue(send, this.timing, () => this.#queues.delete(object));
    this.#queues.set(object, queue);
    return queue;
  }
}
