import { assert } from "../../core/assert";
import { logFault } from "../../fault";
import type { PageChange, PageRow } from "../page-store";
import { type HeldPage, HeldPages } from "./held-pages";
import type { JournalBudget, Share } from "./journal-budget";
import { entriesIn, entryOf, type RowText, rowTextsOf } from "./journal-text";
import type { Continuation, PageTable } from "./page-table";
import type { Sql } from "./sql";

/** From this share of the budget on, each write checkpoints some of the oldest pages. */
const ALMOST_FULL = 7 / 8;
/** How many of them at most, for each page that the write changes. */
const CHECKPOINTS_A_CHANGE = 1 / 4;

/** What memory keeps of a stored row. */
interface JournalRow {
  readonly table: "journal_v1" | "journal_v2";
  readonly number: number;
  /** Increases from row to row. */
  readonly turn: number;
  readonly chars: number;
  readonly pages: readonly HeldPage[];
}

/**
 * Stores what one turn changed in many pages as one row, where the table of pages would need a row for each. A row has an
 * entry for each page: the events that were appended to it, or an image of the page if it changed otherwise.
 *
 * The rows are a ring. Before the oldest row is overwritten, its pages are checkpointed: the table gets them as they are
 * now, unless it has all of their changes already. So a page is written to the table once while the ring turns around,
 * however many events were appended to it.
 *
 * The journal holds a page while any row has an entry of it. All changes of a held page are written here. So the entries of
 * a page, in the order of their turns, continue the page in the table. An append says how long the page was before it.
 * After a checkpoint the page in the table is longer, so older appends do not fit it and are left out.
 *
 * Memory follows each transaction that has succeeded. So no method may be called inside another transaction.
 */
export class Journal {
  /** The oldest first. */
  #rows: JournalRow[] = [];
  readonly #held: HeldPages;
  #freeNumbers: number[] = [];
  #nextNumber = 0;
  readonly #share: Share;

  constructor(
    private readonly sql: Sql,
    private readonly table: PageTable,
    budget: JournalBudget,
  ) {
    this.#share = budget.shareOf(this);
    this.#held = new HeldPages(table);
    this.load();
    this.#shrinkToBudget();
  }

  /** Replaces everything in memory by what is stored. Rows of `journal_v1` hold only images. They are older than any of v2. */
  load(): void {
    this.#rows = [];
    this.#held.clear();
    this.#share.chars = 0;
    this.#nextNumber = 0;
    this.#loadRows("journal_v1", "pages");
    this.#loadRows("journal_v2", "entries");
    const used = new Set(this.#rows.filter(({ table }) => table === "journal_v2").map(({ number }) => number));
    this.#freeNumbers = Array.from({ length: this.#nextNumber }, (_, i) => i).filter((number) => !used.has(number));
  }

  #loadRows(table: JournalRow["table"], column: string): void {
    if (!this.sql.hasTable(table)) return;
    // `run` returns all rows at once: `#hold` reads another table in between.
    for (const [number, turn, text] of this.sql.run(`SELECT number, turn, ${column} FROM ${table} ORDER BY turn`)) {
      const entries = entriesIn(String(text));
      this.#hold(table, Number(number), Number(turn), { text: String(text), entries }, false);
    }
  }

  /** The turn of the newest row. 0 without rows. */
  get newestTurn(): number {
    return this.#rows.at(-1)?.turn ?? 0;
  }

  /** Whether the journal holds a page that was not deleted. */
  get hasPages(): boolean {
    return this.#held.hasPages;
  }

  /** Undefined if the journal does not hold the page. The table may have it. */
  page(key: string, slot: number): HeldPage | undefined {
    return this.#held.page(key, slot);
  }

  pages(key: string): HeldPage[] {
    return this.#held.pages(key);
  }

  /** The text of a held page. Undefined if it was deleted. */
  textOf({ key, slot, base, appended }: HeldPage): string | undefined {
    if (base === "deleted") return undefined;
    const text = base === "table" ? this.table.loadPage(key, slot) : base.image;
    assert(text !== undefined, "a page that is continued in the journal is in its table");
    return continued(text, appended);
  }

  /** Stores all of these changes and does `work` in the same transaction, or does neither if it throws. */
  write(changes: readonly (PageChange | Pick<PageRow, "key" | "slot">)[], work?: () => void): void {
    const entries = changes.map((change) => entryOf(change, this.page(change.key, change.slot)?.length));
    const texts = rowTextsOf(entries);
    const chars = texts.reduce((sum, { text }) => sum + text.length, 0);
    const { evicted, due } = this.#evictionFor(chars, Math.ceil(CHECKPOINTS_A_CHANGE * entries.length));
    const replaced = new Set(
      entries.filter(({ kind }) => kind !== "append").map(({ key, slot }) => this.page(key, slot)),
    );
    this.#checkpointPages(due.filter((page) => !replaced.has(page)));

    const reusable = evicted.filter(({ table }) => table === "journal_v2");
    const overwritten = reusable.slice(0, texts.length);
    const numbers = [...reusable.map(({ number }) => number), ...this.#freeNumbers];
    for (let next = this.#nextNumber; numbers.length < texts.length; next++) numbers.push(next);
    const deleted = evicted.filter((row) => !overwritten.includes(row));
    const turn = this.newestTurn + 1;
    const store = () => {
      work?.();
      for (const row of deleted) this.#deleteRow(row);
      for (const [i, { text }] of texts.entries()) this.#writeRow(numbers[i] as number, turn + i, text);
    };
    // A single statement is atomic by itself. For a transaction SQLite would first copy the row that is overwritten.
    if (deleted.length === 0 && texts.length === 1 && !work) store();
    else this.sql.inTransaction(store);

    this.#dropRows(evicted);
    for (const [i, text] of texts.entries()) this.#hold("journal_v2", numbers[i] as number, turn + i, text, true);
    this.#freeNumbers = numbers.slice(texts.length);
  }

  /** Checkpoints the oldest row if it is no newer than `turn`. False if there is no such row. */
  checkpoint(turn: number): boolean {
    const [oldest] = this.#rows;
    if (!oldest || oldest.turn > turn) return false;
    this.#checkpointPages(unstoredIn(oldest));
    this.#deleteRow(oldest);
    this.#dropRows([oldest]);
    if (oldest.table === "journal_v2") this.#freeNumbers.push(oldest.number);
    return true;
  }

  /** Other objects of the isolate may have used up the budget before this object woke. */
  #shrinkToBudget(): void {
    try {
      while (this.#share.chars > this.#share.mostChars) this.checkpoint(this.newestTurn);
    } catch (error) {
      // A full disk must not keep the object from being read.
      logFault("journal_not_checkpointed", error);
    }
  }

  /**
   * The oldest rows to evict before `chars` more characters are written, and the pages to checkpoint, among them all that
   * only these rows have changes of. At most `most` pages, unless the budget would be exceeded. Pages that many users change
   * all the time are due together, once in each round of the ring, and decisions would wait until all are checkpointed.
   */
  #evictionFor(chars: number, most: number): { evicted: JournalRow[]; due: HeldPage[] } {
    const { mostChars } = this.#share;
    const evicted: JournalRow[] = [];
    const due: HeldPage[] = [];
    let sum = this.#share.chars + chars;
    for (const row of this.#rows) {
      if (sum <= ALMOST_FULL * mostChars) break;
      const unstored = unstoredIn(row);
      const room = sum > mostChars ? unstored.length : Math.max(0, most - due.length);
      due.push(...unstored.slice(0, room));
      if (unstored.length > room) break;
      evicted.push(row);
      sum -= row.chars;
    }
    return { evicted, due };
  }

  /** Writes these pages to the table as they are now, or deletes them there. The rows of the journal stay. */
  #checkpointPages(pages: readonly HeldPage[]): void {
    if (pages.length === 0) return;
    const images: PageRow[] = [];
    const continuations: Continuation[] = [];
    const deleted: HeldPage[] = [];
    for (const page of pages) {
      const { key, slot, base, appended, expiresAtMs, firstAtMs, lastAtMs } = page;
      if (base === "deleted") deleted.push(page);
      else if (base === "table") continuations.push({ key, slot, expiresAtMs, lastAtMs, events: appended });
      else images.push({ key, slot, expiresAtMs, firstAtMs, lastAtMs, text: continued(base.image, appended) });
    }
    this.sql.inTransaction(() => {
      for (const { key, slot } of deleted) this.table.deletePage(key, slot);
      this.table.put(images);
      this.table.continue(continuations);
    });
    this.#held.markStored(pages);
  }

  /** Holds a row and its entries in memory. `isWritten`: the row was written just now, and was not loaded. */
  #hold(
    table: JournalRow["table"],
    number: number,
    turn: number,
    { text, entries }: RowText,
    isWritten: boolean,
  ): void {
    const pages = entries.map((entry) => this.#held.apply(entry, turn, isWritten));
    this.#rows.push({ table, number, turn, chars: text.length, pages });
    this.#share.chars += text.length;
    if (table === "journal_v2") this.#nextNumber = Math.max(this.#nextNumber, number + 1);
  }

  /** Drops the oldest rows from memory, after they were checkpointed. */
  #dropRows(oldest: readonly JournalRow[]): void {
    for (const row of oldest) {
      this.#share.chars -= row.chars;
      this.#held.dropUnlessLater(row.pages, row.turn);
    }
    this.#rows.splice(0, oldest.length);
  }

  #writeRow(number: number, turn: number, text: string): void {
    this.sql.createTable("journal_v2", "(number INTEGER PRIMARY KEY, turn INTEGER NOT NULL, entries TEXT NOT NULL)");
    this.sql.run(
      "INSERT INTO journal_v2 (number, turn, entries) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET turn = excluded.turn, entries = excluded.entries",
      number,
      turn,
      text,
    );
  }

  #deleteRow({ table, number }: JournalRow): void {
    this.sql.run(`DELETE FROM ${table} WHERE number = ?`, number);
  }
}

/** The pages whose oldest change that the table lacks is in this row. */
function unstoredIn({ pages, turn }: JournalRow): HeldPage[] {
  return pages.filter(({ unstoredTurn }) => unstoredTurn === turn);
}

/** The text of a page with further events, each with a comma before it. */
export function continued(text: string, appended: string): string {
  return appended === "" ? text : `${text.slice(0, -"]}".length)}${appended}]}`;
}
