/** Time that stands still until it is told to move. It begins at the real time, cut to a whole second. */
export class TestClock {
  #nowMs = currentSecondMs();
  #lastUsedMs = Number.NEGATIVE_INFINITY;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** The time of a decision. */
  nowForDecision(): number {
    this.#lastUsedMs = this.#nowMs;
    return this.#nowMs;
  }

  /** False, and nothing is changed, for a time before that of a decision: objects would not go back with it. */
  moveTo(ms: number): boolean {
    if (ms < this.#lastUsedMs) return false;
    this.#nowMs = ms;
    return true;
  }

  /** Nothing that was decided is remembered any more: it begins anew, and may be set to any time. */
  reset(): void {
    this.#nowMs = currentSecondMs();
    this.#lastUsedMs = Number.NEGATIVE_INFINITY;
  }
}

function currentSecondMs(): number {
  return Math.floor(Date.now() / 1_000) * 1_000;
}
