import type { Config } from "../config/config";
import type { Call, CallResult, Method, QuestionOf, VerdictOf } from "../object/protocol";
import { MOST_IN_BATCH } from "../request/schema";
import type { DecidingStub, ObjectNamespace } from "./binding";
import { type ObjectCalls, sendCalls, verdictIn } from "./calls";
import { DeadlineError, type Timing } from "./deadline";

interface QueuedCall {
  readonly position: number;
  readonly call: Call;
  readonly giveUpAtMs: number;
  readonly resolve: (result: CallResult | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Sends calls as one message, and retries until `giveUpAtMs`. */
type Send = (calls: readonly Call[], giveUpAtMs: number) => Promise<CallResult[]>;

/**
 * The calls of one object: one message in flight; the rest waits and goes together in the next. Retries happen below the
 * queue, so they change no order. Each call has its own deadline and is rejected by itself. The next message goes once the
 * message in flight is answered, or all of its calls are given up.
 */
export class CallQueue {
  readonly #waiting = new Set<QueuedCall>();
  #isBusy = false;

  constructor(
    private readonly send: Send,
    private readonly timing: Timing,
    /** Called when nothing is in flight and nothing waits. */
    private readonly onIdle: () => void = () => {},
  ) {}

  ask(position: number, call: Call, giveUpAtMs: number): Promise<VerdictOf<Method>> {
    const result = new Promise<CallResult | undefined>((resolve, reject) => {
      const giveUp = () => {
        this.#waiting.delete(queued);
        reject(new DeadlineError("the object did not answer within the deadline"));
      };
      const cancel = this.timing.after(giveUpAtMs - this.timing.now(), giveUp);
      const queued: QueuedCall = {
        position,
        call,
        giveUpAtMs,
        resolve: (result) => {
          cancel();
          resolve(result);
        },
        reject: (error) => {
          cancel();
          reject(error);
        },
      };
      this.#waiting.add(queued);
      if (!this.#isBusy) this.#sendSoon();
    });
    return result.then(verdictIn);
  }

  /** Waits a turn, in which the decisions that were just answered ask their next questions. */
  #sendSoon(): void {
    this.#isBusy = true;
    this.timing.after(0, () => void this.#sendNext());
  }

  async #sendNext(): Promise<void> {
    const message = [...this.#waiting].sort(rollbacksFirst);
    this.#waiting.clear();
    if (message.length > 0) await this.#exchange(message);
    this.#isBusy = false;
    if (this.#waiting.size > 0) this.#sendSoon();
    else this.onIdle();
  }

  async #exchange(message: readonly QueuedCall[]): Promise<void> {
    const giveUpAtMs = Math.max(...message.map(({ giveUpAtMs }) => giveUpAtMs));
    try {
      const results = await this.send(
        message.map(({ call }) => call),
        giveUpAtMs,
      );
      for (const [i, { resolve }] of message.entries()) resolve(results[i]);
    } catch (error) {
      for (const { reject } of message) reject(error);
    }
  }
}

/** Rollbacks go first, so that a charge that is about to be rolled back denies nobody. The rest goes by position. */
function rollbacksFirst(a: QueuedCall, b: QueuedCall): number {
  const isRollback = ({ call }: QueuedCall) => call.method === "rollBack";
  return Number(isRollback(b)) - Number(isRollback(a)) || a.position - b.position;
}

/** A call queue for each object, shared by the decisions of a batch, or by all batches of a hub. */
export class CallQueues {
  readonly #queues = new Map<string, CallQueue>();
  #batches = 0;

  constructor(
    private readonly objects: ObjectNamespace<DecidingStub>,
    private readonly config: Pick<Config, "locationHint">,
    readonly timing: Timing,
  ) {}

  /** The objects' calls, for the decision at each position of a batch. Batches go in the order in which they begin. */
  forBatch(): (position: number) => ObjectCalls {
    const first = MOST_IN_BATCH * this.#batches++;
    return (position) => this.#at(first + position);
  }

  #at(position: number): ObjectCalls {
    return {
      ask: <M extends Method>(object: string, method: M, question: QuestionOf<M>, giveUpAtMs: number) => {
        const verdict = this.#queueOf(object).ask(position, { method, question } as Call, giveUpAtMs);
        return verdict as Promise<VerdictOf<M>>;
      },
    };
  }

  #queueOf(object: string): CallQueue {
    const existing = this.#queues.get(object);
    if (existing) return existing;
    const send: Send = (calls, giveUpAtMs) =>
      sendCalls(this.objects, object, calls, giveUpAtMs, this.config, this.timing);
    const queue = new CallQueue(send, this.timing, () => this.#queues.delete(object));
    this.#queues.set(object, queue);
    return queue;
  }
}
