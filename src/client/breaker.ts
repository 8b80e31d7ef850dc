import { LimiterError, UnavailableError } from "./errors.js";
import { inBackground } from "./timer.js";

/** This many failed checks and consumes in a row open the breaker. */
const MOST_FAILURES = 3;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** Probing stops after this time without a call. */
const IDLE_MS = 60_000;
/** A timer or a probe this late is lost: some runtimes end both with the request that started them. */
const LATE_MS = 1_000;

export interface BreakerOptions<Q> {
  /** Probes the service, in the background. Rejects with an UnavailableError if the service does not answer. */
  readonly probe: (question: Q) => Promise<unknown>;
  /** The same, without a question. Every other probe, if there is one. */
  readonly probeNeutrally?: () => Promise<unknown>;
  /** How long a probe takes at most. */
  readonly deadlineMs: number;
  readonly onOpen: (error: UnavailableError) => void;
  readonly onClose: () => void;
  /** The policy and the subject of a question, as a text. */
  readonly identityOf: (question: Q) => string;
}

/**
 * Circuit breaker: in an outage calls do not wait for their deadline. It opens after a few failures in a row, probes in
 * the background with back-off, and closes with the first answer to any call.
 *
 * A failure that is about its subject, such as that of an unreachable object, is no outage: it counts once per policy and
 * subject. Probes ask the question of the latest call, and every other probe asks none: a subject that never gets an
 * answer, for example because a firewall refuses its name, must not keep the breaker open for the others.
 */
export class Breaker<Q> {
  #failures = 0;
  /** The policies and subjects of the failures in a row. */
  readonly #failedIdentities = new Set<string>();
  /** The answers so far: the failure of a call that began before the latest answer shows no outage. */
  #answers = 0;
  /** The reason of the outage, while the breaker is open. */
  #outage: UnavailableError | undefined;
  #question: Q | undefined;
  #calledAtMs = 0;
  #pauseMs = FIRST_PAUSE_MS;
  /** The number of the latest probe: an earlier probe that was given up as lost may still end. */
  #probe = 0;
  /** After this the latest probe, or the timer for the next, is lost. */
  #probeLostAtMs = 0;
  #isNextProbeNeutral = false;

  constructor(private readonly options: BreakerOptions<Q>) {}

  /** The outage, if there is one: the call must then not be made. Probes if the latest probe is lost. */
  outageFor(question: Q): UnavailableError | undefined {
    this.#question = question;
    this.#calledAtMs = performance.now();
    if (this.#outage && this.#calledAtMs > this.#probeLostAtMs) this.#startProbe();
    return this.#outage;
  }

  /** Stops probing. The next call probes again. */
  close(): void {
    this.#probe += 1;
    this.#probeLostAtMs = 0;
  }

  /** Makes a call and observes its outcome. A call without a question can end an outage, but not begin one. */
  observe<T>(call: () => Promise<T>, question?: Q): Promise<T> {
    return this.#observe(call, question, false);
  }

  /** The same for a call that the service may answer although it decides nothing. */
  observeNeutral<T>(call: () => Promise<T>): Promise<T> {
    return this.#observe(call, undefined, true);
  }

  async #observe<T>(call: () => Promise<T>, question: Q | undefined, isNeutral: boolean): Promise<T> {
    const answersBefore = this.#answers;
    try {
      const answer = await call();
      this.#onAnswer(isNeutral);
      return answer;
    } catch (error) {
      if (error instanceof UnavailableError) {
        if (question !== undefined && answersBefore === this.#answers) this.#onFailure(error, question);
      } else if (error instanceof LimiterError) {
        this.#onAnswer(isNeutral);
      }
      throw error;
    }
  }

  #onAnswer(isNeutral: boolean): void {
    // After an answer that decides nothing, the next outage is probed as rarely as this one.
    if (!isNeutral) this.#pauseMs = FIRST_PAUSE_MS;
    this.#answers += 1;
    this.#failures = 0;
    this.#failedIdentities.clear();
    if (!this.#outage) return;
    this.#outage = undefined;
    this.#probe += 1;
    this.options.onClose();
  }

  #onFailure(error: UnavailableError, question: Q): void {
    if (this.#outage) return;
    const identity = this.options.identityOf(question);
    if (error.isAboutSubject && this.#failedIdentities.has(identity)) return;
    this.#failedIdentities.add(identity);
    this.#failures += 1;
    if (this.#failures < MOST_FAILURES) return;
    this.#outage = error;
    this.options.onOpen(error);
    this.#probeLater();
  }

  #probeLater(): void {
    const waitMs = this.#pauseMs * (0.5 + Math.random());
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
    this.#probeLostAtMs = performance.now() + waitMs + LATE_MS;
    // The next call probes again.
    if (performance.now() - this.#calledAtMs > IDLE_MS) return;
    const number = this.#probe;
    inBackground(waitMs, () => number === this.#probe && this.#startProbe());
  }

  #startProbe(): void {
    const { probe, probeNeutrally, deadlineMs } = this.options;
    const number = ++this.#probe;
    this.#probeLostAtMs = performance.now() + deadlineMs + LATE_MS;
    const isNeutral = probeNeutrally !== undefined && this.#isNextProbeNeutral;
    this.#isNextProbeNeutral = !isNeutral;
    const call = isNeutral ? probeNeutrally : () => probe(this.#question as Q);
    this.#observe(call, undefined, isNeutral).catch(() => {
      if (this.#outage && number === this.#probe) this.#probeLater();
    });
  }
}
