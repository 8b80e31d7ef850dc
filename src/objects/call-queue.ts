import type { Config } from "../config/config";
import type { Call, CallResult, Method, VerdictOf } from "../object/protocol";
import { MOST_IN_BATCH } from "../request/schema";
import type { DecidingStub, ObjectNamespace } from "./binding";
import { Breakers, LeftAloneError } from "./breakers";
import { type Hearer, type ObjectCalls, sendCalls, verdictIn } from "./calls";
import { DeadlineError, isOverloaded, NotSentError } from "./deadline";
import type { Timing } from "./timing";

/** Bounds of how many calls may wait for an object. Between them its speed decides. */
const MOST_WAITING = 10_000;
const FEWEST_WAITING = 10;

/** A call that waits or is in flight. Its hearer is told once: an answer after it was given up is dropped. */
class QueuedCall {
  #isOver = false;

  constructor(
    readonly position: number,
    readonly call: Call,
    readonly giveUpAtMs: number,
    private readonly hearer: Hearer<VerdictOf<Method>>,
  ) {}

  end(result: CallResult | undefined): void {
    if (this.#isOver) return;
    try {
      const verdict = verdictIn(result);
      this.#isOver = true;
      this.hearer.answered(verdict);
    } catch (error) {
      this.#isOver = true;
      this.hearer.failed(error);
    }
  }

  fail(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.hearer.failed(error);
  }
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
  #inFlight: readonly QueuedCall[] = [];
  /** Nothing is in flight, and the next message goes soon. */
  #isDue = false;
  /** How many calls may wait. */
  #mostWaiting = MOST_WAITING;
  /** Gives calls up at the earliest deadline. Unset while the message in flight ends by itself before any other deadline. */
  #timer: { readonly dueMs: number; readonly cancel: () => void } | undefined;

  constructor(
    private readonly send: Send,
    private readonly timing: Timing,
    /** Runs work soon: first the decisions that were just answered ask their next questions, which then go in the same message. */
    private readonly soon: (work: () => void) => void,
    /** Called when nothing is in flight and nothing waits. */
    private readonly onIdle: () => void,
  ) {}

  ask(position: number, call: Call, giveUpAtMs: number, hearer: Hearer<VerdictOf<Method>>): void {
    // A charge that is not rolled back denies others.
    if (this.#waiting.length >= this.#mostWaiting && call.method !== "rollBack") {
      hearer.failed(new NotSentError(`the object has ${this.#waiting.length} calls waiting already`));
      return;
    }
    this.#waiting.push(new QueuedCall(position, call, giveUpAtMs, hearer));
    if (this.#inFlight.length === 0) this.#sendSoon();
    else this.#giveUpAt(giveUpAtMs);
  }

  #sendSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.soon(() => void this.#sendNext());
  }

  async #sendNext(): Promise<void> {
    this.#isDue = false;
    const nowMs = this.timing.now();
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#inFlight = waiting.filter(hasTimeAt(nowMs)).sort(rollbacksFirst);
    giveUp(waiting, nowMs, NotSentError);
    if (this.#inFlight.length > 0) await this.#exchange(this.#inFlight);
    this.#inFlight = [];
    if (this.#waiting.length > 0) return this.#sendSoon();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.onIdle();
  }

  async #exchange(message: readonly QueuedCall[]): Promise<void> {
    const earliestMs = earliestOf(message);
    const latestMs = message.reduce((latestMs, { giveUpAtMs }) => Math.max(latestMs, giveUpAtMs), 0);
    if (earliestMs < latestMs) this.#giveUpAt(earliestMs);
    const sentAtMs = this.timing.now();
    try {
      const results = await this.send(
        message.map(({ call }) => call),
        latestMs,
      );
      message.forEach((queued, i) => void queued.end(results[i]));
    } catch (error) {
      for (const queued of message) queued.fail(error);
      if (isOverloaded(error)) this.#refuseWaiting();
    }
    this.#limitWaiting(message.length, this.timing.now() - sentAtMs, latestMs - sentAtMs);
  }

  /** Refuses the calls that wait for an overloaded object, except rollbacks. */
  #refuseWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(isRollback);
    // A hearer may ask again at once, so the queue is in order before.
    for (const queued of waiting) if (!isRollback(queued)) queued.fail(new LeftAloneError("the object"));
  }

  /**
   * Lets only as many calls wait as the object answers in half of a message's deadline. The rest is refused at once. If all
   * waited, each would be sent shortly before its deadline, and the object would decide for callers that have given up.
   * Each message that takes less than half raises the bound by a quarter, also one that fails. An idle queue forgets it.
   */
  #limitWaiting(calls: number, tookMs: number, hadMs: number): void {
    const most = tookMs > hadMs / 2 ? (calls * hadMs) / 2 / tookMs : 1.25 * this.#mostWaiting;
    this.#mostWaiting = Math.min(MOST_WAITING, Math.max(FEWEST_WAITING, Math.floor(most)));
  }

  #giveUpAt(dueMs: number): void {
    if (this.#timer && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cancel();
    const ring = () => {
      this.#timer = undefined;
      // By the clock this may be early: the clock may go back.
      const nowMs = Math.max(dueMs, this.timing.now());
      const waiting = this.#waiting;
      this.#waiting = waiting.filter(hasTimeAt(nowMs));
      const nextMs = Math.min(earliestOf(this.#waiting), earliestOf(this.#inFlight.filter(hasTimeAt(nowMs))));
      if (nextMs < Number.POSITIVE_INFINITY) this.#giveUpAt(nextMs);
      giveUp(waiting, nowMs, NotSentError);
      giveUp(this.#inFlight, nowMs, DeadlineError);
    };
    // Timers drop fractions of a millisecond.
    this.#timer = { dueMs, cancel: this.timing.after(Math.ceil(dueMs - this.timing.now()), ring) };
  }
}

/** The earliest deadline. Infinity without calls. */
function earliestOf(calls: readonly QueuedCall[]): number {
  return calls.reduce((earliestMs, { giveUpAtMs }) => Math.min(earliestMs, giveUpAtMs), Number.POSITIVE_INFINITY);
}

const hasTimeAt = (nowMs: number) => (queued: QueuedCall) => queued.giveUpAtMs > nowMs;

/** Gives up the calls whose deadline has passed. Their hearers may ask again at once. */
function giveUp(calls: readonly QueuedCall[], nowMs: number, Reason: new (message: string) => Error): void {
  for (const queued of calls)
    if (queued.giveUpAtMs <= nowMs) queued.fail(new Reason("the object did not answer within the deadline"));
}

/** Rollbacks go first, so that a charge that is about to be rolled back denies nobody. The rest goes by position. */
function rollbacksFirst(a: QueuedCall, b: QueuedCall): number {
  return Number(isRollback(b)) - Number(isRollback(a)) || a.position - b.position;
}

function isRollback({ call }: QueuedCall): boolean {
  return call.method === "rollBack";
}

/** A call queue for each object, shared by the decisions of a batch, or by all batches of a hub. */
export class CallQueues {
  readonly #queues = new Map<string, CallQueue>();
  #batches = 0;
  /** Sends that wait until all decisions of a batch have begun. Undefined if no batch is beginning. */
  #beginning: (() => void)[] | undefined;

  constructor(
    private readonly objects: ObjectNamespace<DecidingStub>,
    private readonly config: Pick<Config, "locationHint">,
    readonly timing: Timing,
    private readonly breakers = new Breakers(timing),
  ) {}

  /** The objects' calls, for the decisions of a batch. Batches go in the order in which they begin. */
  forBatch(): ObjectCalls {
    const first = MOST_IN_BATCH * this.#batches++;
    return {
      ask: (object, method, question, giveUpAtMs, position, hearer) => {
        if (method !== "rollBack" && !this.breakers.admits(object)) hearer.failed(new LeftAloneError(object));
        else
          this.#queueOf(object).ask(
            first + position,
            { method, question } as Call,
            giveUpAtMs,
            hearer as Hearer<VerdictOf<Method>>,
          );
      },
    };
  }

  /**
   * Begins the decisions of a batch, and then sends what they asked, one message an object. Requires that a decision asks
   * before its first `await`. A later question goes with a later message.
   */
  begin<T>(decisions: () => T): T {
    const sends: (() => void)[] = [];
    this.#beginning = sends;
    try {
      return decisions();
    } finally {
      this.#beginning = undefined;
      for (const send of sends) send();
    }
  }

  #soon(work: () => void): void {
    if (this.#beginning) this.#beginning.push(work);
    else this.timing.after(0, work);
  }

  #queueOf(object: string): CallQueue {
    const existing = this.#queues.get(object);
    if (existing) return existing;
    const send: Send = (calls, giveUpAtMs) =>
      sendCalls(this.objects, object, calls, giveUpAtMs, this.config, this.timing, this.breakers);
    const soon = (work: () => void) => this.#soon(work);
    const queue = new CallQueue(send, this.timing, soon, () => this.#queues.delete(object));
    this.#queues.set(object, queue);
    return queue;
  }
}
