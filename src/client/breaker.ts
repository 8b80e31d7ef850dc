import { LimiterError, UnavailableError } from "./errors.js";

/** So many checks and consumes in a row without an answer open the breaker. */
const MOST_FAILURES = 3;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** The asking stops when no call has wanted an answer for so long. */
const IDLE_MS = 60_000;
/** A timer or a question that is late by so much is lost: some runtimes end both with the request that made them. */
const LATE_MS = 1_000;

export interface BreakerOptions<Q> {
  /** Asks the service once more, in the background. Rejects with an UnavailableError when nobody answers. */
  readonly ask: (question: Q) => Promise<unknown>;
  /** How long `ask` takes at most. */
  readonly deadlineMs: number;
  readonly onOpen: (error: UnavailableError) => void;
  readonly onClose: () => void;
  /** Who a question is about: the same text for the same policy and subject. */
  readonly identityOf: (question: Q) => string;
}

/**
 * Circuit breaker: while nobody answers, calls are not made to wait for their whole deadline. It opens after a few failures
 * in a row, asks again in the background with back-off, and closes with the first answer to anything.
 *
 * One object that is out of reach is no outage: when the service itself says 503, only failures about different policies or
 * subjects count. It asks what the latest call wanted to know, so that such an object does not keep it open for the others.
 */
export class Breaker<Q> {
  #failures = 0;
  /** Who the failures in this row were about. */
  readonly #failedAbout = new Set<string>();
  /** Answers so far: a call that began before the latest one says nothing about an outage. */
  #answers = 0;
  /** Why calls are not made, while it is open. */
  #outage: UnavailableError | undefined;
  #question: Q | undefined;
  #wantedAtMs = 0;
  #pauseMs = FIRST_PAUSE_MS;
  /** Counts the rounds of asking: a round that was taken for lost may still end. */
  #round = 0;
  /** By then the round under way has ended, or is lost. */
  #roundEndsAtMs = 0;

  constructor(private readonly options: BreakerOptions<Q>) {}

  /** The outage, if there is one: a call with this question must not be made then. */
  outageFor(question: Q): UnavailableError | undefined {
    this.#question = question;
    this.#wantedAtMs = performance.now();
    if (this.#outage && this.#wantedAtMs > this.#roundEndsAtMs) this.#ask();
    return this.#outage;
  }

  /** Learns from a call what becomes of it. A call without a question can end an outage, but not begin one. */
  async observe<T>(call: () => Promise<T>, question?: Q): Promise<T> {
    const answersBefore = this.#answers;
    try {
      const answer = await call();
      this.#answered();
      return answer;
    } catch (error) {
      if (error instanceof UnavailableError) {
        if (question !== undefined && answersBefore === this.#answers) this.#failed(error, question);
      } else if (error instanceof LimiterError) {
        this.#answered();
      }
      throw error;
    }
  }

  #answered(): void {
    this.#answers += 1;
    this.#failures = 0;
    this.#failedAbout.clear();
    if (!this.#outage) return;
    this.#outage = undefined;
    this.#round += 1;
    this.options.onClose();
  }

  #failed(error: UnavailableError, question: Q): void {
    if (this.#outage) return;
    const about = this.options.identityOf(question);
    if (error.isFromService && this.#failedAbout.has(about)) return;
    this.#failedAbout.add(about);
    this.#failures += 1;
    if (this.#failures < MOST_FAILURES) return;
    this.#outage = error;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.options.onOpen(error);
    this.#askLater();
  }

  #askLater(): void {
    const waitMs = this.#pauseMs * (0.5 + Math.random());
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
    this.#roundEndsAtMs = performance.now() + waitMs + LATE_MS;
    // The next call asks again.
    if (performance.now() - this.#wantedAtMs > IDLE_MS) return;
    const round = this.#round;
    const timer: unknown = setTimeout(() => round === this.#round && this.#ask(), waitMs);
    // It must not keep a process alive, where there are processes.
    (timer as { unref?: () => void }).unref?.();
  }

  #ask(): void {
    const { ask, deadlineMs } = this.options;
    const round = ++this.#round;
    this.#roundEndsAtMs = performance.now() + deadlineMs + LATE_MS;
    this.observe(() => ask(this.#question as Q)).catch(() => {
      if (this.#outage && round === this.#round) this.#askLater();
    });
  }
}
