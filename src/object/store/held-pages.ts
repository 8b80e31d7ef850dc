import type { Entry } from "./journal-text";
import type { PageTable } from "./page-table";

/** A page that some row of the journal has an entry of. */
export interface HeldPage {
  readonly key: string;
  readonly slot: number;
  /** The text that `appended` follows: an image from the journal, the page in the table, or none if the page was deleted. */
  base: { readonly image: string } | "table" | "deleted";
  /** The events after the base, each with a comma before it. */
  appended: string;
  /** Length of the whole text. */
  length: number;
  expiresAtMs: number;
  firstAtMs: number;
  lastAtMs: number;
  /** The oldest row with a change that the table lacks. Undefined if it lacks none. */
  unstoredTurn: number | undefined;
  /** The newest row with an entry of the page. */
  lastTurn: number;
}

/** The pages that the journal holds, as they are after all of its rows. */
export class HeldPages {
  /** By key and slot. */
  readonly #pages = new Map<string, Map<number, HeldPage>>();

  constructor(private readonly table: PageTable) {}

  /** Some page is held that was not deleted. */
  get hasPages(): boolean {
    for (const pages of this.#pages.values())
      for (const { base } of pages.values()) if (base !== "deleted") return true;
    return false;
  }

  page(key: string, slot: number): HeldPage | undefined {
    return this.#pages.get(key)?.get(slot);
  }

  pages(key: string): HeldPage[] {
    return [...(this.#pages.get(key)?.values() ?? [])];
  }

  clear(): void {
    this.#pages.clear();
  }

  /**
   * Holds an entry of a row, which is the newest. `isWritten`: the row was written just now, so an append continues the
   * table. Otherwise it was loaded, and an append may be older than the last checkpoint.
   */
  hold(entry: Entry, turn: number, isWritten: boolean): HeldPage {
    const { key, slot } = entry;
    const ofKey = this.#pages.get(key) ?? new Map<number, HeldPage>();
    this.#pages.set(key, ofKey);
    const page = ofKey.get(slot) ?? (isWritten ? unheldPage(entry) : this.#pageInTable(key, slot));
    ofKey.set(slot, page);
    page.lastTurn = turn;
    // An append that is older than the last checkpoint.
    if (entry.kind === "append" && entry.length !== page.length) return page;
    if (entry.kind === "append") {
      page.unstoredTurn ??= turn;
      page.appended += entry.events;
      page.length += entry.events.length;
    } else {
      // Earlier entries are of no use any more.
      page.unstoredTurn = turn;
      page.base = entry.kind === "image" ? { image: entry.text } : "deleted";
      page.appended = "";
      page.length = entry.kind === "image" ? entry.text.length : 0;
      page.firstAtMs = entry.firstAtMs;
    }
    page.expiresAtMs = entry.expiresAtMs;
    page.lastAtMs = entry.lastAtMs;
    return page;
  }

  /** A page of which no row has an entry yet. */
  #pageInTable(key: string, slot: number): HeldPage {
    const row = this.table.describePage(key, slot);
    const { length = 0, expiresAtMs = 0, firstAtMs = 0, lastAtMs = 0 } = row ?? {};
    const base = row ? "table" : "deleted";
    return {
      key,
      slot,
      base,
      appended: "",
      length,
      expiresAtMs,
      firstAtMs,
      lastAtMs,
      unstoredTurn: undefined,
      lastTurn: 0,
    };
  }

  /** These pages are in their table now, as they are. */
  markStored(pages: readonly HeldPage[]): void {
    for (const page of pages) {
      page.unstoredTurn = undefined;
      page.appended = "";
      if (page.base !== "deleted") page.base = "table";
    }
  }

  /** The row of this turn, the oldest, is gone. Its pages are held only if a later row has an entry of them. */
  forgetUnlessLater(pages: readonly HeldPage[], turn: number): void {
    for (const { key, slot, lastTurn } of pages) {
      if (lastTurn > turn) continue;
      this.#pages.get(key)?.delete(slot);
      if (this.#pages.get(key)?.size === 0) this.#pages.delete(key);
    }
  }
}

/** A page of which no row has an entry yet, when one is written: an append continues the table. */
function unheldPage(entry: Entry): HeldPage {
  const { key, slot, firstAtMs } = entry;
  const [base, length] = entry.kind === "append" ? (["table", entry.length] as const) : (["deleted", 0] as const);
  return {
    key,
    slot,
    base,
    appended: "",
    length,
    expiresAtMs: 0,
    firstAtMs,
    lastAtMs: 0,
    unstoredTurn: undefined,
    lastTurn: 0,
  };
}
