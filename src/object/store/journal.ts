import type { PageRow } from "../page-store";
import type { JournalBudget, Share } from "./journal-budget";
import type { PageTable } from "./page-table";
import type { Sql } from "./sql";

/** A page as the journal holds it. `row` is undefined if the page was deleted. */
export interface JournaledPage {
  readonly key: string;
  readonly slot: number;
  readonly row: PageRow | undefined;
}

/** The newest version of a page, and the turn of the row that holds it. */
interface LatestPage extends JournaledPage {
  readonly turn: number;
}

/** A row to be written. */
interface RowContent {
  readonly pages: readonly JournaledPage[];
  readonly text: string;
}

/** A stored row, as memory knows it. Its pages may have newer versions in later rows. */
interface JournalRow {
  readonly number: number;
  /** Increases from row to row. */
  readonly turn: number;
  readonly chars: number;
  readonly pages: readonly Pick<JournaledPage, "key" | "slot">[];
}

/** About how much text a row has at most. A row may have 2 MB. */
const ROW_CHARS = 200_000;

/** A page in a row's text. A deleted page has only its key and its slot. */
type PageTuple = [
  key: string,
  slot: number,
  expiresAtMs: number,
  firstAtMs: number,
  lastAtMs: number,
  page: object | undefined,
];

/**
 * The pages that one turn changed, all in one row. For many pages, that costs a fraction of a row a page.
 *
 * The rows are a ring. Before the oldest row is overwritten, its pages are checkpointed: they are written to their table,
 * unless a later row has a newer version. Most pages change again before that, and never reach the table this way.
 *
 * A page in the journal is newer than the same page in the table. So readers must look here first, and a page that is held
 * here must be written here.
 *
 * Memory changes only after a transaction has succeeded. So no method may be called inside another transaction.
 */
export class Journal {
  /** The oldest first. */
  #rows: JournalRow[] = [];
  /** The newest version of each page, by key and slot. */
  readonly #latest = new Map<string, Map<number, LatestPage>>();
  #freeNumbers: number[] = [];
  #nextNumber = 0;
  readonly #share: Share;

  constructor(
    private readonly sql: Sql,
    private readonly table: PageTable,
    budget: JournalBudget,
  ) {
    this.#share = budget.shareOf(this);
    this.load();
    this.#shrinkToBudget();
  }

  /** Replaces everything in memory by what is stored. */
  load(): void {
    this.#rows = [];
    this.#latest.clear();
    this.#share.chars = 0;
    this.#nextNumber = 0;
    if (this.sql.hasTable("journal_v1"))
      for (const [number, turn, text] of this.sql.each("SELECT number, turn, pages FROM journal_v1 ORDER BY turn"))
        this.#hold(Number(number), Number(turn), { text: String(text), pages: pagesIn(String(text)) });
    const used = new Set(this.#rows.map(({ number }) => number));
    this.#freeNumbers = Array.from({ length: this.#nextNumber }, (_, i) => i).filter((number) => !used.has(number));
  }

  /** The turn of the newest row. 0 without rows. */
  get newestTurn(): number {
    return this.#rows.at(-1)?.turn ?? 0;
  }

  /** The journal holds a page that was not deleted. */
  get hasPages(): boolean {
    for (const pages of this.#latest.values()) for (const { row } of pages.values()) if (row) return true;
    return false;
  }

  /** The newest version of a page. Undefined if the journal does not hold the page: the table may. */
  page(key: string, slot: number): JournaledPage | undefined {
    return this.#latest.get(key)?.get(slot);
  }

  /** The newest versions of a key's pages. */
  pages(key: string): JournaledPage[] {
    return [...(this.#latest.get(key)?.values() ?? [])];
  }

  /** Stores all of these pages and does `work` in the same transaction. If it throws, nothing is stored. */
  write(pages: readonly JournaledPage[], work?: () => void): void {
    const contents = rowContentsOf(pages);
    const oldest = this.#rowsInTheWayOf(contents.reduce((sum, { text }) => sum + text.length, 0));
    const replaced = new Set(pages.map(({ key, slot }) => `${slot} ${key}`));
    const numbers = [...oldest.map(({ number }) => number), ...this.#freeNumbers];
    for (let next = this.#nextNumber; numbers.length < contents.length; next++) numbers.push(next);
    const turn = this.newestTurn + 1;
    const store = () => {
      work?.();
      this.#checkpointPages(oldest, ({ key, slot }) => !replaced.has(`${slot} ${key}`));
      for (const { number } of oldest.slice(contents.length)) this.#deleteRow(number);
      for (const [i, { text }] of contents.entries()) this.#writeRow(numbers[i] as number, turn + i, text);
    };
    if (oldest.length === 0 && contents.length === 1 && !work) store();
    else this.sql.atOnce(store);

    this.#forget(oldest);
    for (const [i, content] of contents.entries()) this.#hold(numbers[i] as number, turn + i, content);
    this.#freeNumbers = numbers.slice(contents.length);
  }

  /** Checkpoints the oldest row if it is no newer than `turn`. False if there is no such row. */
  checkpoint(turn: number): boolean {
    const oldest = this.#rows.slice(0, 1).filter((row) => row.turn <= turn);
    for (const { number } of oldest)
      this.sql.atOnce(() => {
        this.#checkpointPages(oldest, () => true);
        this.#deleteRow(number);
      });
    this.#forget(oldest);
    this.#freeNumbers.push(...oldest.map(({ number }) => number));
    return oldest.length > 0;
  }

  /** The objects that woke earlier may have used up the budget. */
  #shrinkToBudget(): void {
    try {
      while (this.#share.chars > this.#share.mostChars) this.checkpoint(this.newestTurn);
    } catch (error) {
      // A full disk must not keep the object from being read.
      console.error("The journal could not be checkpointed. The next write tries again.", error);
    }
  }

  /** The oldest rows that must go before `chars` more characters are written. */
  #rowsInTheWayOf(chars: number): JournalRow[] {
    let count = 0;
    const { mostChars } = this.#share;
    for (let sum = this.#share.chars + chars; sum > mostChars && count < this.#rows.length; count++)
      sum -= this.#rows[count]?.chars ?? 0;
    return this.#rows.slice(0, count);
  }

  /** Writes the wanted pages of these rows to their table, except pages that a later row holds. */
  #checkpointPages(rows: readonly JournalRow[], isWanted: (page: JournaledPage) => boolean): void {
    const pages = rows.flatMap((row) => this.#latestIn(row)).filter(isWanted);
    this.table.put(pages.flatMap(({ row }) => row ?? []));
    for (const { key, slot, row } of pages) if (!row) this.table.deletePage(key, slot);
  }

  /** The pages of a row that no later row holds. */
  #latestIn({ turn, pages }: JournalRow): LatestPage[] {
    return pages.flatMap(({ key, slot }) => {
      const latest = this.#latest.get(key)?.get(slot);
      return latest?.turn === turn ? latest : [];
    });
  }

  /** Holds a row in memory. */
  #hold(number: number, turn: number, { pages, text }: RowContent): void {
    this.#rows.push({ number, turn, chars: text.length, pages: pages.map(({ key, slot }) => ({ key, slot })) });
    this.#share.chars += text.length;
    this.#nextNumber = Math.max(this.#nextNumber, number + 1);
    for (const page of pages) {
      const ofKey = this.#latest.get(page.key) ?? new Map<number, LatestPage>();
      ofKey.set(page.slot, { ...page, turn });
      this.#latest.set(page.key, ofKey);
    }
  }

  /** Drops the oldest rows from memory. */
  #forget(oldest: readonly JournalRow[]): void {
    for (const row of oldest) {
      this.#share.chars -= row.chars;
      for (const { key, slot } of this.#latestIn(row)) {
        this.#latest.get(key)?.delete(slot);
        if (this.#latest.get(key)?.size === 0) this.#latest.delete(key);
      }
    }
    this.#rows.splice(0, oldest.length);
  }

  #writeRow(number: number, turn: number, text: string): void {
    this.sql.createTable("journal_v1", "(number INTEGER PRIMARY KEY, turn INTEGER NOT NULL, pages TEXT NOT NULL)");
    this.sql.run(
      "INSERT INTO journal_v1 (number, turn, pages) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET turn = excluded.turn, pages = excluded.pages",
      number,
      turn,
      text,
    );
  }

  #deleteRow(number: number): void {
    this.sql.run("DELETE FROM journal_v1 WHERE number = ?", number);
  }
}

/** Divides pages into rows that are not too long. A page's text is JSON already and is not encoded again. */
function rowContentsOf(pages: readonly JournaledPage[]): RowContent[] {
  const rows: { pages: JournaledPage[]; texts: string[]; chars: number }[] = [];
  for (const page of pages) {
    const text = textOf(page);
    const last = rows.at(-1);
    if (last && last.chars + text.length < ROW_CHARS) {
      last.pages.push(page);
      last.texts.push(text);
      last.chars += text.length;
    } else rows.push({ pages: [page], texts: [text], chars: text.length });
  }
  return rows.map(({ pages, texts }) => ({ pages, text: `[${texts.join()}]` }));
}

function textOf({ key, slot, row }: JournaledPage): string {
  const name = `${JSON.stringify(key)},${slot}`;
  return row ? `[${name},${row.expiresAtMs},${row.firstAtMs},${row.lastAtMs},${row.text}]` : `[${name}]`;
}

function pagesIn(text: string): JournaledPage[] {
  return (JSON.parse(text) as PageTuple[]).map(([key, slot, expiresAtMs, firstAtMs, lastAtMs, page]) => {
    if (page === undefined) return { key, slot, row: undefined };
    return { key, slot, row: { key, slot, expiresAtMs, firstAtMs, lastAtMs, text: JSON.stringify(page) } };
  });
}
