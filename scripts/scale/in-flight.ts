import type { Scheduler } from "../../tools/scheduler";

/** What is in flight: how much at most, and for how long anything is. Cloudflare bills an object for that time. */
export class InFlight {
  most = 0;
  #count = 0;
  #sinceMs = 0;
  #endedMs = 0;

  constructor(private readonly scheduler: Scheduler) {}

  /** How long anything was in flight until now. */
  get activeMs(): number {
    return this.#endedMs + (this.#count > 0 ? this.scheduler.nowMs - this.#sinceMs : 0);
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    if (this.#count === 0) this.#sinceMs = this.scheduler.nowMs;
    this.#count++;
    this.most = Math.max(this.most, this.#count);
    try {
      return await work();
    } finally {
      this.#endedMs = this.activeMs;
      this.#sinceMs = this.scheduler.nowMs;
      this.#count--;
    }
  }
}
