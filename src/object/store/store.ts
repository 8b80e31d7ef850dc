import type { PageChange, PageRow, PageStore } from "../page-store";
import type { HeldPage } from "./held-pages";
import { continued, Journal } from "./journal";
import { ISOLATE_BUDGET, JournalBudget } from "./journal-budget";
import { OverrideTable } from "./override-table";
import { PageTable } from "./page-table";
import { Sql } from "./sql";

/** From 8 pages on, one journal row is cheaper than a row a page, even if all are checkpointed later. */
const MANY_PAGES = 8;

/**
 * The pages and overrides of all keys in one object. Pages are in a table, a row each. Pages that a turn changed together
 * with many others are in a journal until they are checkpointed. All SQL of the object is in this folder.
 */
export class Store implements PageStore {
  readonly #sql: Sql;
  readonly #table: PageTable;
  readonly #journal: Journal;
  readonly overrides: OverrideTable;

  constructor(
    storage: DurableObjectStorage,
    /** A budget that several journals share, or the size of this journal's own budget in characters. */
    journalBudget: JournalBudget | number = ISOLATE_BUDGET,
  ) {
    this.#sql = new Sql(storage);
    this.#table = new PageTable(this.#sql);
    const budget = typeof journalBudget === "number" ? new JournalBudget(journalBudget) : journalBudget;
    this.#journal = new Journal(this.#sql, this.#table, budget);
    this.overrides = new OverrideTable(this.#sql);
  }

  /** Rows written since the object woke. Tests hold them to a budget. */
  get rowsWritten(): number {
    return this.#sql.rowsWritten;
  }

  /** Whether the object occupies storage, even if all of its rows are deleted. */
  get hasTables(): boolean {
    return this.#sql.hasTables;
  }

  get isEmpty(): boolean {
    return !this.#journal.hasPages && this.#table.isEmpty && this.overrides.isEmpty;
  }

  pages(key: string): Iterable<PageRow> {
    return this.#merged(key, this.#table.pages(key));
  }

  *pagesOf(keys: readonly string[]): Generator<[key: string, pages: Iterable<PageRow>]> {
    for (const [key, rows] of this.#table.pagesOf(keys)) yield [key, this.#merged(key, rows.sort(byTime))];
  }

  /** The pages of a key, those that the journal holds among those of the table. */
  *#merged(key: string, inTable: Iterable<PageRow>): Generator<PageRow> {
    const held = new Map(this.#journal.pages(key).map((page) => [page.slot, page]));
    const images = [...held.values()].filter(({ base }) => typeof base === "object").map((page) => this.#rowOf(page));
    images.sort(byTime);
    for (const row of inTable) {
      const page = held.get(row.slot);
      if (page && page.base !== "table") continue;
      for (let next = images[0]; next && byTime(next, row) < 0; next = images[0]) {
        images.shift();
        yield next;
      }
      yield page ? this.#rowOf(page, row.text) : row;
    }
    yield* images;
  }

  loadPage(key: string, slot: number): string | undefined {
    const held = this.#journal.page(key, slot);
    return held ? this.#journal.textOf(held) : this.#table.loadPage(key, slot);
  }

  put(changes: readonly PageChange[]): void {
    const isHeld = ({ key, slot }: PageChange) => this.#journal.page(key, slot) !== undefined;
    if (changes.length < MANY_PAGES && !changes.some(isHeld)) this.#table.put(changes);
    else this.#journal.write(changes);
  }

  deleteKey(key: string): void {
    const held = this.#journal.pages(key).map(({ slot }) => ({ key, slot }));
    if (held.length > 0) this.#journal.write(held, () => this.#table.deleteKey(key));
    else this.#table.deleteKey(key);
  }

  /** Deletes a page from the table. A page that the journal continues or replaces has not expired: it stays. */
  deletePage(key: string, slot: number): void {
    if (!this.#journal.page(key, slot)) this.#table.deletePage(key, slot);
  }

  pagesAfter(key: string, slot: number, count: number, byMs = Number.MAX_SAFE_INTEGER) {
    return this.#table.pagesAfter(key, slot, count, byMs);
  }

  get newestTurn(): number {
    return this.#journal.newestTurn;
  }

  checkpoint(turn = this.newestTurn): boolean {
    return this.#journal.checkpoint(turn);
  }

  /** `base`: the text in the table, if it was read already. */
  #rowOf(page: HeldPage, base?: string): PageRow {
    const { key, slot, expiresAtMs, firstAtMs, lastAtMs, appended } = page;
    const text = base === undefined ? (this.#journal.textOf(page) ?? "") : continued(base, appended);
    return { key, slot, expiresAtMs, firstAtMs, lastAtMs, text };
  }

  /** Deletes everything, the alarm included. The object then occupies no storage. */
  async deleteAll(): Promise<void> {
    try {
      await this.#sql.deleteAll();
    } finally {
      this.#journal.load();
    }
  }
}

function byTime(a: PageRow, b: PageRow): number {
  // The slot decides between pages of one millisecond, so that journal and table give them in the same order.
  return a.firstAtMs - b.firstAtMs || a.lastAtMs - b.lastAtMs || a.slot - b.slot;
}
