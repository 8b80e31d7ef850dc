/** Repeats its work while the page is visible, and starts at once when the page becomes visible again. */
export class Poll {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;
  readonly #visibilityChanged = () => {
    if (document.hidden) clearTimeout(this.#timer);
    else void this.#run();
  };

  constructor(
    private readonly work: () => Promise<void> | void,
    private readonly everyMs: () => number,
  ) {
    document.addEventListener("visibilitychange", this.#visibilityChanged);
    void this.#run();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#visibilityChanged);
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    await this.work();
    clearTimeout(this.#timer);
    if (!this.#isStopped && !document.hidden) this.#timer = setTimeout(() => void this.#run(), this.everyMs());
  }
}
