/** Does something again and again while somebody looks, and at once when they come back. */
export class Poll {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;
  readonly #looked = () => {
    if (document.hidden) clearTimeout(this.#timer);
    else void this.#run();
  };

  constructor(
    private readonly work: () => Promise<void> | void,
    private readonly everyMs: () => number,
  ) {
    document.addEventListener("visibilitychange", this.#looked);
    void this.#run();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#looked);
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    await this.work();
    clearTimeout(this.#timer);
    if (!this.#isStopped && !document.hidden) this.#timer = setTimeout(() => void this.#run(), this.everyMs());
  }
}
