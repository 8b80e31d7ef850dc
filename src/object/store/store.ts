import type { PageRow, PageStore } from "../page-store";
import { Journal } from "./journal";
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
    private readonly storage: DurableObjectStorage,
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

  get isEmpty(): boolean {
    return !this.#journal.hasPages && this.#table.isEmpty && this.overrides.isEmpty;
  }

  *pages(key: string): Generator<PageRow> {
    const held = this.#journal.pages(key);
    const newer = held.flatMap(({ row }) => row ?? []).sort(byTime);
    for (const row of this.#table.pages(key)) {
      if (held.some(({ slot }) => slot === row.slot)) continue;
      while (newer[0] && byTime(newer[0], row) < 0) yield newer.shift() as PageRow;
      yield row;
    }
    yield* newer;
  }

  loadPage(key: string, slot: number): string | undefined {
    const held = this.#journal.page(key, slot);
    return held ? held.row?.text : this.#table.loadPage(key, slot);
  }

  put(rows: readonly PageRow[]): void {
    const isHeld = ({ key, slot }: PageRow) => this.#journal.page(key, slot) !== undefined;
    if (rows.length < MANY_PAGES && !rows.some(isHeld)) this.#table.put(rows);
    else this.#journal.write(rows.map((row) => ({ key: row.key, slot: row.slot, row })));
  }

  deleteKey(key: string): void {
    const held = this.#journal.pages(key).map(({ slot }) => ({ key, slot, row: undefined }));
    if (held.length > 0) this.#journal.write(held, () => this.#table.deleteKey(key));
    else this.#table.deleteKey(key);
  }

  /** Deletes the page from the table only: the journal's page is newer. */
  deletePage(key: string, slot: number): void {
    this.#table.deletePage(key, slot);
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

  /** Deletes everything, the alarm included. The object then occupies no storage. */
  async deleteAll(): Promise<void> {
    try {
      await this.storage.deleteAll();
    } finally {
      this.#sql.forgetTables();
      this.#journal.load();
    }
  }
}

function byTime(a: PageRow, b: PageRow): number {
  // The slot decides between pages of one millisecond, so that journal and table give them in the same order.
  return a.firstAtMs - b.firstAtMs || a.lastAtMs - b.lastAtMs || a.slot - b.slot;
}
