import {
  type ConsumeRequest,
  type Decision,
  type Limiter,
  LimiterError,
  type Log,
  type Release,
  type Settlement,
  type SettleRequest,
  type Subject,
  UnknownDecisionError,
} from "../client/index.js";

/** How much a request weighs. */
export type Cost = NonNullable<ConsumeRequest["cost"]>;

/** The charge of an admitted request. Its handler may settle and release it. */
export class Charge {
  readonly decision: Decision;
  /** Who was charged, for other decisions about them. */
  readonly subject: Subject;
  readonly #limiter: Limiter;
  readonly #log: Log;
  /** Of two settles at once, the service keeps the one that arrives last: each waits for the one before. */
  #settled: Promise<unknown> = Promise.resolve();
  #isReleased = false;

  constructor(decision: Decision, limiter: Limiter, subject: Subject, log: Log) {
    this.decision = decision;
    this.#limiter = limiter;
    this.subject = subject;
    this.#log = log;
  }

  /** Whether `release` was called. */
  get isReleased(): boolean {
    return this.#isReleased;
  }

  /**
   * Corrects the cost: the real cost once it is known, 0 to give it back. Undefined if there is no charge. Undefined
   * also if the correction failed, which is logged: the cost then counts until it leaves its windows.
   */
  settle(cost: SettleRequest["cost"]): Promise<Settlement | undefined> {
    const { subject } = this;
    const { policy } = this.decision;
    const settled = this.#settled.then(() => this.#change((id) => this.#limiter.settle({ policy, subject, id, cost })));
    this.#settled = settled.catch(() => {});
    return settled;
  }

  /**
   * Ends the request for concurrent limits. Undefined as for `settle`: a failed release holds its place until the
   * window has passed.
   */
  release(): Promise<Release | undefined> {
    this.#isReleased = true;
    const { subject } = this;
    const { policy } = this.decision;
    return this.#change((id) => this.#limiter.release({ policy, subject, id }));
  }

  async #change<T>(change: (id: string) => Promise<T>): Promise<T | undefined> {
    const { id, degraded, policy } = this.decision;
    if (id === undefined) return undefined;
    try {
      return await change(id);
    } catch (error) {
      if (!(error instanceof LimiterError)) throw error;
      // In an outage, the consume may never have been recorded.
      if (!(degraded && error instanceof UnknownDecisionError))
        this.#log(`A charge by policy ${JSON.stringify(policy)} could not be changed.`, error);
      return undefined;
    }
  }
}
