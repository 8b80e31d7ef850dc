import { Journal } from "./journal";
import { ISOLATE_BUDGET, JournalBudget } from "./journal-budget";
import { OverrideTable } from "./override-table";
import { PageTable, type Row } from "./page-table";
import { Sql } from "./sql";

/** What accounts and ledgers need of a store, which is all that a simulation must have of one. */
export type PageStore = Pick<
  Store,
  "pages" | "loadPage" | "put" | "deleteKey" | "deletePage" | "pagesAfter" | "newestTurn" | "retire"
> & { readonly overrides: Pick<OverrideTable, "load" | "put" | "delete" | "deleteEnded"> };

/** From so many pages on, one row of the journal is less than a row each, also when all of them move on in the end. */
const MANY_PAGES = 8;

/**
 * The pages of all keys in one object: in a table, a row each, and those that were changed together with many others
 * in a journal until they are moved there; and what overrides some of these keys. All of the SQL is here and in what this is made of.
 */
export class Store {
  readonly #sql: Sql;
  readonly #table: PageTable;
  readonly #journal: Journal;
  readonly overrides: OverrideTable;

  constructor(
    private readonly storage: DurableObjectStorage,
    /** A budget that several journals share, or one for this journal alone, in characters. */
    journalBudget: JournalBudget | number = ISOLATE_BUDGET,
  ) {
    this.#sql = new Sql(storage);
    this.#table = new PageTable(this.#sql);
    const budget = typeof journalBudget === "number" ? new JournalBudget(journalBudget) : journalBudget;
    this.#journal = new Journal(this.#sql, this.#table, budget);
    this.overrides = new OverrideTable(this.#sql);
  }

  /** Rows written since the object woke: what the tests hold to their budget. */
  get rowsWritten(): number {
    return this.#sql.rowsWritten;
  }

  get isEmpty(): boolean {
    return !this.#journal.hasPages && this.#table.isEmpty && this.overrides.isEmpty;
  }

  /** The pages of a key in their order, one at a time: a key with a million events has more text than memory holds. */
  *pages(key: string): Generator<Row> {
    const held = this.#journal.images(key);
    const newer = held.flatMap(({ row }) => row ?? []).sort(inOrder);
    for (const row of this.#table.pages(key)) {
      if (held.some(({ slot }) => slot === row.slot)) continue;
      while (newer[0] && inOrder(newer[0], row) < 0) yield newer.shift() as Row;
      yield row;
    }
    yield* newer;
  }

  /** The text of one page, undefined if there is none. */
  loadPage(key: string, slot: number): string | undefined {
    const held = this.#journal.image(key, slot);
    return held ? held.row?.text : this.#table.loadPage(key, slot);
  }

  /** Stores all of these pages, each in place of the one with its key and slot, or none if it throws. */
  put(rows: readonly Row[]): void {
    const isHeld = ({ key, slot }: Row) => this.#journal.image(key, slot) !== undefined;
    if (rows.length < MANY_PAGES && !rows.some(isHeld)) this.#table.put(rows);
    else this.#journal.add(rows.map((row) => ({ key: row.key, slot: row.slot, row })));
  }

  deleteKey(key: string): void {
    const held = this.#journal.images(key).map(({ slot }) => ({ key, slot, row: undefined }));
    if (held.length > 0) this.#journal.add(held, () => this.#table.deleteKey(key));
    else this.#table.deleteKey(key);
  }

  /** Deletes a page from the table: one that the journal holds is another, and newer. */
  deletePage(key: string, slot: number): void {
    this.#table.deletePage(key, slot);
  }

  /** Up to `count` pages of the table after (`key`, `slot`), in its order, without an event later than `byMs`. */
  pagesAfter(key: string, slot: number, count: number, byMs = Number.MAX_SAFE_INTEGER) {
    return this.#table.pagesAfter(key, slot, count, byMs);
  }

  /** The turn of the journal's newest row. */
  get newestTurn(): number {
    return this.#journal.newestTurn;
  }

  /** Moves the journal's oldest row to the table; false when it has none, or none that is as old as `turn`. */
  retire(turn = this.newestTurn): boolean {
    return this.#journal.retire(turn);
  }

  /** Empties the object wholly: it then occupies nothing, and has no alarm. */
  async deleteAll(): Promise<void> {
    try {
      await this.storage.deleteAll();
    } finally {
      this.#sql.forgetTables();
      this.#journal.read();
    }
  }
}

function inOrder(one: Row, other: Row): number {
  // The slot last: events of one millisecond have one order, whether the journal or the table holds their pages.
  return one.firstAtMs - other.firstAtMs || one.lastAtMs - other.lastAtMs || one.slot - other.slot;
}
