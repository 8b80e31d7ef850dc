import type { Call, CallResult } from "./protocol";

interface WaitingCalls {
  readonly calls: readonly Call[];
  readonly answer: (results: CallResult[]) => void;
}

/**
 * Group commit: calls that arrive while others wait are decided with them, in the order of their arrival, in one turn
 * and so in one transaction. A commit has to reach the disk, and takes far longer than a decision.
 */
export class GroupCommit {
  #waiting: WaitingCalls[] = [];

  /**
   * `decide` is given the calls of everybody, and answers each; it does not throw. `later` is a timer, since its turn
   * comes after those of all calls that have arrived: a microtask would be the first call's own turn.
   */
  constructor(
    private readonly decide: (calls: readonly Call[]) => CallResult[],
    private readonly later: (work: () => void) => void = (work) => void setTimeout(work, 0),
  ) {}

  /** Resolves to the results of these calls, in their order. */
  add(calls: readonly Call[]): Promise<CallResult[]> {
    return new Promise((answer) => {
      if (this.#waiting.length === 0) this.later(() => this.#decideAll());
      this.#waiting.push({ calls, answer });
    });
  }

  #decideAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const results = this.decide(waiting.flatMap(({ calls }) => calls));
    let next = 0;
    for (const { calls, answer } of waiting) {
      answer(results.slice(next, next + calls.length));
      next += calls.length;
    }
  }
}
