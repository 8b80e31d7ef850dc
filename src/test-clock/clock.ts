/** A clock that stands still until it is moved. It begins at the real time, cut to a whole second. */
export class TestClock {
  #nowMs = currentSecondMs();
  #lastDecisionMs = Number.NEGATIVE_INFINITY;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** The time, for a decision. From then on the clock can't be set to an earlier time. */
  nowForDecision(): number {
    this.#lastDecisionMs = this.#nowMs;
    return this.#nowMs;
  }

  /**
   * Sets the time. False for a time before a decision, which changes nothing: the time of an object never goes back.
   */
  moveTo(ms: number): boolean {
    if (ms < this.#lastDecisionMs) return false;
    this.#nowMs = ms;
    return true;
  }

  /** Starts again at the real time, after all decisions were forgotten. It can then be set to any time. */
  reset(): void {
    this.#nowMs = currentSecondMs();
    this.#lastDecisionMs = Number.NEGATIVE_INFINITY;
  }
}

function currentSecondMs(): number {
  return Math.floor(Date.now() / 1_000) * 1_000;
}
