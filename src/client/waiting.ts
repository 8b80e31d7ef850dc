import { type Decision, isBan } from "./decision.js";
import { readWait } from "./options.js";

/** Many callers may wait for the same room: this spreads their next tries. */
const JITTER_MS = 250;

/** The time that a consume may wait for room, all its pauses together. */
export class Wait {
  readonly #endsAtMs: number;
  /** Pauses count in full, also those of a test that moves a clock instead. */
  #unsleptMs: number;

  /** @throws RangeError for a time that is negative, or too long for a timer. */
  constructor(ms: number) {
    this.#endsAtMs = performance.now() + readWait(ms);
    this.#unsleptMs = ms;
  }

  /** The pause before the next try; undefined if a try would not help, or not in time. */
  nextPauseMs(decision: Decision): number | undefined {
    const ms = msUntilItFits(decision);
    const leftMs = Math.min(this.#unsleptMs, this.#endsAtMs - performance.now());
    if (ms === undefined || ms > leftMs) return undefined;
    const pauseMs = Math.min(ms + JITTER_MS * Math.random(), leftMs);
    this.#unsleptMs -= pauseMs;
    return pauseMs;
  }
}

/** Undefined if it was allowed, if `onError` decided, and under a ban. */
function msUntilItFits(decision: Decision): number | undefined {
  const { retryAfterSeconds, degraded } = decision;
  return retryAfterSeconds === null || degraded || isBan(decision) ? undefined : 1_000 * retryAfterSeconds;
}
