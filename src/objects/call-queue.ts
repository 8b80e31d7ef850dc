import type { Config } from "../config/config";
import type { Call, CallResult, Method, QuestionOf, VerdictOf } from "../object/protocol";
import { MOST_IN_BATCH } from "../request/schema";
import type { DecidingStub, ObjectNamespace } from "./binding";
import { NotSentError, type ObjectCalls, sendCalls, verdictIn } from "./calls";
import { DeadlineError, type Timing } from "./deadline";

/** How many calls may wait for an object, however fast or slow it is. */
const MOST_WAITING = 10_000;
const FEWEST_WAITING = 100;

interface QueuedCall {
  readonly position: number;
  readonly call: Call;
  readonly giveUpAtMs: number;
  readonly resolve: (verdict: VerdictOf<Method>) => void;
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
  #waiting: QueuedCall[] = [];
  #inFlight: QueuedCall[] = [];
  /** Nothing is in flight, and the next message goes within a turn. Cancels that. */
  #cancelSoon: (() => void) | undefined;
  /** The timer that gives calls up. One for all calls, due at the earliest deadline that it was set for. */
  #timer: { readonly dueMs: number; readonly cancel: () => void } | undefined;
  /** How many calls may wait. */
  #mostWaiting = MOST_WAITING;

  constructor(
    private readonly send: Send,
    private readonly timing: Timing,
    /** Called when nothing is in flight and nothing waits. */
    private readonly onIdle: () => void = () => {},
  ) {}

  ask(position: number, call: Call, giveUpAtMs: number): Promise<VerdictOf<Method>> {
    // A charge that is not rolled back denies others.
    if (this.#waiting.length >= this.#mostWaiting && call.method !== "rollBack")
      return Promise.reject(new NotSentError(`the object has ${this.#waiting.length} calls waiting already`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ position, call, giveUpAtMs, resolve, reject });
      this.#giveUpBy(giveUpAtMs);
      if (this.#inFlight.length === 0) this.#sendSoon();
    });
  }

  /** Sends what waits for the end of the turn now: whoever asks in this turn has asked. */
  sendNow(): void {
    if (!this.#cancelSoon) return;
    this.#cancelSoon();
    void this.#sendNext();
  }

  /** Waits a turn, in which the decisions that were just answered ask their next questions. */
  #sendSoon(): void {
    this.#cancelSoon ??= this.timing.after(0, () => void this.#sendNext());
  }

  async #sendNext(): Promise<void> {
    this.#cancelSoon = undefined;
    this.#giveUpDue(this.timing.now());
    this.#inFlight = this.#waiting.sort(rollbacksFirst);
    this.#waiting = [];
    if (this.#inFlight.length > 0) await this.#exchange(this.#inFlight);
    this.#inFlight = [];
    if (this.#waiting.length > 0) return this.#sendSoon();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.onIdle();
  }

  async #exchange(message: readonly QueuedCall[]): Promise<void> {
    const giveUpAtMs = message.reduce((latestMs, { giveUpAtMs }) => Math.max(latestMs, giveUpAtMs), 0);
    const sentAtMs = this.timing.now();
    try {
      const results = await this.send(
        message.map(({ call }) => call),
        giveUpAtMs,
      );
      for (const [i, queued] of message.entries()) settle(queued, results[i]);
    } catch (error) {
      for (const { reject } of message) reject(error);
    }
    this.#limitWaiting(message.length, this.timing.now() - sentAtMs, giveUpAtMs - sentAtMs);
  }

  /**
   * Lets only as many calls wait as the object answers in half of the time that a message has. An object that is asked for
   * more refuses the rest at once: if all of them waited, each would be sent when its deadline is near, and the object would
   * decide only what nobody waits for.
   */
  #limitWaiting(calls: number, tookMs: number, hadMs: number): void {
    const most = tookMs > hadMs / 2 ? (calls * hadMs) / 2 / tookMs : 1.25 * this.#mostWaiting;
    this.#mostWaiting = Math.min(MOST_WAITING, Math.max(FEWEST_WAITING, Math.floor(most)));
  }

  #giveUpBy(dueMs: number, nowMs = this.timing.now()): void {
    if (this.#timer && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cancel();
    // By the clock this may be early: the clock may go back.
    const ring = () => this.#giveUpDue(Math.max(dueMs, this.timing.now()));
    // Timers drop fractions of a millisecond.
    this.#timer = { dueMs, cancel: this.timing.after(Math.ceil(dueMs - nowMs), ring) };
  }

  /** Gives up the calls whose deadline has passed. Nothing happens to those that were answered. */
  #giveUpDue(nowMs: number): void {
    if (!this.#timer || nowMs < this.#timer.dueMs) return;
    this.#timer = undefined;
    for (const { giveUpAtMs, reject } of [...this.#waiting, ...this.#inFlight])
      if (giveUpAtMs <= nowMs) reject(new DeadlineError("the object did not answer within the deadline"));
      else this.#giveUpBy(giveUpAtMs, nowMs);
    this.#waiting = this.#waiting.filter(({ giveUpAtMs }) => giveUpAtMs > nowMs);
  }
}

function settle({ resolve, reject }: QueuedCall, result: CallResult | undefined): void {
  try {
    resolve(verdictIn(result));
  } catch (error) {
    reject(error);
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

  /** Sends at once what the decisions of a batch ask first. */
  sendNow(): void {
    for (const queue of this.#queues.values()) queue.sendNow();
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
