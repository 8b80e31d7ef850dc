/** A full page. Once it has expired, its slot is used for a new page. */
export interface SealedPage {
  /** Increases from page to page, and is never used again. */
  readonly serial: number;
  readonly slot: number;
  expiresAtMs: number;
  readonly lastAtMs: number;
}

/** The sealed pages of a key, in the order of their times and of their serial numbers. */
export class SealedPages {
  readonly #pages: SealedPage[] = [];

  get size(): number {
    return this.#pages.length;
  }

  /** -1 without pages. */
  get highestSlot(): number {
    return this.#pages.reduce((highest, { slot }) => Math.max(highest, slot), -1);
  }

  /** Adds the newest page. */
  add(page: SealedPage): void {
    this.#pages.push(page);
  }

  oldestFirst(): Iterable<SealedPage> {
    return this.#pages;
  }

  *newestFirst(): Generator<SealedPage> {
    for (let i = this.#pages.length - 1; i >= 0; i--) yield this.#pages[i] as SealedPage;
  }

  find(slot: number): SealedPage | undefined {
    return this.#pages.find((page) => page.slot === slot);
  }

  serialOf(slot: number): number | undefined {
    return this.find(slot)?.serial;
  }

  /** Halves the interval, since serial numbers increase. */
  slotOf(serial: number): number | undefined {
    let low = 0;
    let high = this.#pages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#pages[middle] as SealedPage).serial < serial) low = middle + 1;
      else high = middle;
    }
    const page = this.#pages[low];
    return page?.serial === serial ? page.slot : undefined;
  }

  /** Removes the oldest page that matches. */
  take(matches: (page: SealedPage) => boolean): SealedPage | undefined {
    const i = this.#pages.findIndex(matches);
    return i < 0 ? undefined : this.#pages.splice(i, 1)[0];
  }
}
