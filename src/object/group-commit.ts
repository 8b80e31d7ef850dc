import type { Call, CallResult } from "./protocol";

interface WaitingCalls {
  readonly calls: readonly Call[];
  readonly resolve: (results: CallResult[]) => void;
}

/**
 * Group commit: calls that arrive while others wait are decided together with them, in the order of arrival, in one turn
 * and so in one transaction. A commit must reach the disk and takes far longer than a decision.
 */
export class GroupCommit {
  #waiting: WaitingCalls[] = [];

  /**
   * `decide` gets all waiting calls and returns a result for each. It must not throw. `later` is a timer and no microtask: a
   * microtask would run before the calls that have arrived with the first one.
   */
  constructor(
    private readonly decide: (calls: readonly Call[]) => CallResult[],
    private readonly later: (work: () => void) => void = (work) => void setTimeout(work, 0),
  ) {}

  /** Resolves to the results of these calls, in their order. */
  add(calls: readonly Call[]): Promise<CallResult[]> {
    return new Promise((resolve) => {
      if (this.#waiting.length === 0) this.later(() => this.#decideAll());
      this.#waiting.push({ calls, resolve });
    });
  }

  #decideAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const results = this.decide(waiting.flatMap(({ calls }) => calls));
    let from = 0;
    for (const { calls, resolve } of waiting) {
      resolve(results.slice(from, from + calls.length));
      from += calls.length;
    }
  }
}
