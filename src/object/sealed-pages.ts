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
  #highestSlot = -1;
  /** No page expires before this. */
  #firstExpiryMs = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#pages.length;
  }

  /** The highest slot of any page so far. -1 without pages. */
  get highestSlot(): number {
    return this.#highestSlot;
  }

  /** Adds the newest page. The expiry of a page may only be put off later. */
  add(page: SealedPage): void {
    this.#pages.push(page);
    this.#highestSlot = Math.max(this.#highestSlot, page.slot);
    this.#firstExpiryMs = Math.min(this.#firstExpiryMs, page.expiresAtMs);
  }

  /** When the last event of the newest page was admitted. */
  get newestMs(): number | undefined {
    return this.#pages.at(-1)?.lastAtMs;
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

  /** Removes the oldest page that has expired and matches. A key may have thousands of pages, so most calls look at none. */
  takeExpired(nowMs: number, matches: (page: SealedPage) => boolean): SealedPage | undefined {
    if (nowMs < this.#firstExpiryMs) return undefined;
    const i = this.#pages.findIndex((page) => page.expiresAtMs <= nowMs && matches(page));
    const [taken] = i < 0 ? [] : this.#pages.splice(i, 1);
    this.#firstExpiryMs = Number.POSITIVE_INFINITY;
    for (const { expiresAtMs } of this.#pages) this.#firstExpiryMs = Math.min(this.#firstExpiryMs, expiresAtMs);
    return taken;
  }
}
