/** One journal's share of the budget. */
export class Share {
  #chars = 0;

  constructor(private readonly budget: JournalBudget) {}

  /** How many characters of text the journal holds. */
  get chars(): number {
    return this.#chars;
  }

  set chars(chars: number) {
    this.budget.heldChars += chars - this.#chars;
    this.#chars = chars;
  }

  /** How many characters the journal may hold, given what the other journals hold. */
  get mostChars(): number {
    const { heldChars, totalChars, journalChars, leastChars } = this.budget;
    return Math.max(leastChars, Math.min(journalChars, totalChars - (heldChars - this.#chars)));
  }
}

/**
 * Bounds the text that the journals of one isolate hold in memory together. A journal without room checkpoints its oldest
 * rows earlier. Every journal has room for `leastChars`, so that the objects that woke first leave room for the others.
 */
export class JournalBudget {
  heldChars = 0;
  /** An object is not told when it leaves memory. Its text takes memory until it is garbage-collected, and counts as long. */
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

/** All objects of an isolate share its 128 MB. A character of a page is one byte: only keys go beyond ASCII. */
export const ISOLATE_BUDGET = new JournalBudget(16_000_000, 8_000_000, 250_000);
