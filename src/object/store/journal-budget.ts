/** What one journal holds of the budget. */
export class Share {
  #chars = 0;

  constructor(private readonly budget: JournalBudget) {}

  /** Characters of text that the journal holds. */
  get chars(): number {
    return this.#chars;
  }

  set chars(chars: number) {
    this.budget.heldChars += chars - this.#chars;
    this.#chars = chars;
  }

  /** Characters that the journal may hold, beside what the others hold. */
  get mostChars(): number {
    const { heldChars, totalChars, journalChars, leastChars } = this.budget;
    return Math.max(leastChars, Math.min(journalChars, totalChars - (heldChars - this.#chars)));
  }
}

/**
 * Bounds the text that the journals of one isolate hold in memory together. A journal that has no room moves its oldest
 * pages to their table earlier. It always has room for `leastChars`, so that objects which woke first can't keep the
 * others from having a journal at all.
 */
export class JournalBudget {
  heldChars = 0;
  /** Nobody tells an object that it leaves memory. Its text takes memory until it is collected, and counts as long. */
  readonly #collected = new FinalizationRegistry<Share>((share) => {
    share.chars = 0;
  });

  constructor(
    readonly totalChars: number,
    readonly journalChars = totalChars,
    readonly leastChars = 0,
  ) {}

  shareOf(journal: object): Share {
    const share = new Share(this);
    this.#collected.register(journal, share);
    return share;
  }
}

/** An isolate has 128 MB, which all of its objects share. A character of a page is a byte: only keys go beyond ASCII. */
export const ISOLATE_BUDGET = new JournalBudget(16_000_000, 8_000_000, 250_000);
