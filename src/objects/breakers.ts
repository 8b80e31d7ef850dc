import { logFault } from "../fault";
import { isOverloaded, NotSentError } from "./deadline";
import type { Timing } from "./timing";

/** How long an object is left alone at first, and at most. Each is up to half shorter or longer, so that isolates part. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 1_000;

/** An object whose breaker is forgotten is called again, so the bound costs an overloaded object some calls. */
const MOST_BREAKERS = 1_000;

interface Breaker {
  readonly openedAtMs: number;
  pauseMs: number;
  /** When the next call may go. */
  untilMs: number;
}

/** The object is overloaded and was not called. The log was told when the breaker opened. */
export class LeftAloneError extends NotSentError {
  constructor(object: string) {
    super(`${object} is overloaded and is left alone for a moment`);
  }
}

/**
 * Breakers of an isolate or a hub, one for each object that said that it is overloaded. Such an object is left alone for a
 * pause. Then one call a pause is let through, until an answer closes the breaker. Each further "overloaded" doubles the
 * pause. Rollbacks are never refused: a charge that is not rolled back denies others.
 */
export class Breakers {
  readonly #breakers = new Map<string, Breaker>();

  constructor(private readonly timing: Timing) {}

  /** Whether a call may be sent now. After a pause that is one call, and then another pause begins. */
  admits(object: string): boolean {
    const breaker = this.#breakers.get(object);
    if (breaker === undefined) return true;
    const nowMs = this.timing.now();
    if (nowMs < breaker.openedAtMs) {
      // The clock went back. By it the pause would last as long as that, and no answer would close the breaker.
      this.#breakers.delete(object);
      return true;
    }
    if (nowMs < breaker.untilMs) return false;
    breaker.untilMs = nowMs + this.#jittered(breaker.pauseMs);
    return true;
  }

  /** The object answered a message that was sent at `sentAtMs`. A message from before the breaker opened proves nothing. */
  onAnswer(object: string, sentAtMs: number): void {
    const breaker = this.#breakers.get(object);
    if (breaker !== undefined && sentAtMs > breaker.openedAtMs) this.#breakers.delete(object);
  }

  onError(object: string, sentAtMs: number, error: unknown): void {
    if (!isOverloaded(error)) return;
    const breaker = this.#breakers.get(object);
    // Several messages may have been in flight when the breaker opened.
    if (breaker !== undefined && sentAtMs <= breaker.openedAtMs) return;
    const nowMs = this.timing.now();
    const pauseMs = breaker ? Math.min(2 * breaker.pauseMs, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
    this.#breakers.delete(object);
    this.#breakers.set(object, { openedAtMs: nowMs, pauseMs, untilMs: nowMs + this.#jittered(pauseMs) });
    if (this.#breakers.size > MOST_BREAKERS) this.#breakers.delete(this.#breakers.keys().next().value ?? "");
    if (!breaker) logFault("object_overloaded", error);
  }

  #jittered(ms: number): number {
    return ms * (0.5 + this.timing.random());
  }
}
