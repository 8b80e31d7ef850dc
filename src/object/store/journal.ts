import type { PageRow } from "../page-store";
import type { JournalBudget, Share } from "./journal-budget";
import type { PageTable } from "./page-table";
import type { Sql } from "./sql";

/** What a page is now: undefined when it was deleted. */
export interface JournaledPage {
  readonly key: string;
  readonly slot: number;
  readonly row: PageRow | undefined;
}

/** A row of the journal: which one, how long, and whose images it holds. */
interface Entry {
  readonly number: number;
  /** Later rows have higher ones. */
  readonly turn: number;
  readonly chars: number;
  readonly pages: readonly Pick<JournaledPage, "key" | "slot">[];
}

/** The latest image of a page, and in which entry it is. */
interface LatestPage extends JournaledPage {
  readonly turn: number;
}

/** A row of the journal has about so much text at most: a row may have 2 MB. */
const ENTRY_CHARS = 200_000;

/** As it is written: of a page that was deleted, the key and the slot alone. */
type PageTuple = [
  key: string,
  slot: number,
  expiresAtMs: number,
  firstAtMs: number,
  lastAtMs: number,
  page: object | undefined,
];

/**
 * The pages that one turn changed, all in one row: for a turn of many, a fraction of what a row each costs to write.
 * Rows are used in a ring. Before the oldest one is overwritten, the pages that no later one holds go to their table;
 * most were changed again meanwhile, and never go there.
 *
 * What the journal holds of a page is newer than what the table has: whoever reads asks here first, and whoever
 * writes a page that is held here writes it here.
 *
 * Memory follows a transaction once that has succeeded. So no method may be called inside another transaction.
 */
export class Journal {
  /** The oldest first. */
  #entries: Entry[] = [];
  /** Of each page that some entry holds the latest image, by key and slot. */
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
    this.read();
    this.#shrink();
  }

  /** Reads what is stored, in place of all that is held in memory. */
  read(): void {
    this.#entries = [];
    this.#latest.clear();
    this.#share.chars = 0;
    this.#nextNumber = 0;
    if (this.sql.hasTable("journal_v1"))
      for (const [number, turn, text] of this.sql.each("SELECT number, turn, pages FROM journal_v1 ORDER BY turn"))
        this.#hold(Number(number), Number(turn), { text: String(text), images: pagesIn(String(text)) });
    const used = new Set(this.#entries.map(({ number }) => number));
    this.#freeNumbers = Array.from({ length: this.#nextNumber }, (_, i) => i).filter((number) => !used.has(number));
  }

  /** Later rows have higher turns than this one. */
  get newestTurn(): number {
    return this.#entries.at(-1)?.turn ?? 0;
  }

  /** Some page is held that was not deleted. */
  get hasPages(): boolean {
    for (const images of this.#latest.values()) for (const { row } of images.values()) if (row) return true;
    return false;
  }

  /** The latest image of a page, undefined when the journal holds none: the table has it, if anyone. */
  page(key: string, slot: number): JournaledPage | undefined {
    return this.#latest.get(key)?.get(slot);
  }

  /** The latest images of a key's pages. */
  pages(key: string): JournaledPage[] {
    return [...(this.#latest.get(key)?.values() ?? [])];
  }

  /** Stores all of these images and does the work that goes with it, or nothing of it if it throws. */
  add(images: readonly JournaledPage[], work?: () => void): void {
    const parts = rowsOf(images);
    const oldest = this.#inTheWay(parts.reduce((sum, { text }) => sum + text.length, 0));
    const replaced = new Set(images.map(({ key, slot }) => `${slot} ${key}`));
    const numbers = [...oldest.map(({ number }) => number), ...this.#freeNumbers];
    for (let next = this.#nextNumber; numbers.length < parts.length; next++) numbers.push(next);
    const turn = this.newestTurn + 1;
    const write = () => {
      work?.();
      this.#moveOut(oldest, ({ key, slot }) => !replaced.has(`${slot} ${key}`));
      for (const { number } of oldest.slice(parts.length)) this.#delete(number);
      for (const [i, { text }] of parts.entries()) this.#write(numbers[i] as number, turn + i, text);
    };
    if (oldest.length === 0 && parts.length === 1 && !work) write();
    else this.sql.atOnce(write);

    this.#release(oldest);
    for (const [i, part] of parts.entries()) this.#hold(numbers[i] as number, turn + i, part);
    this.#freeNumbers = numbers.slice(parts.length);
  }

  /** Moves the pages of the oldest row to their table, if it is no newer than `turn`; false when there is none. */
  checkpoint(turn: number): boolean {
    const oldest = this.#entries.slice(0, 1).filter((entry) => entry.turn <= turn);
    for (const { number } of oldest)
      this.sql.atOnce(() => {
        this.#moveOut(oldest, () => true);
        this.#delete(number);
      });
    this.#release(oldest);
    this.#freeNumbers.push(...oldest.map(({ number }) => number));
    return oldest.length > 0;
  }

  /** Objects that woke before may have used up the budget. */
  #shrink(): void {
    try {
      while (this.#share.chars > this.#share.mostChars) this.checkpoint(this.newestTurn);
    } catch (error) {
      // A disk that is full must not keep the object from being read.
      console.error("The journal could not be moved to its table; the next write tries again.", error);
    }
  }

  /** The oldest entries that must go before so many characters more are written. */
  #inTheWay(chars: number): Entry[] {
    let count = 0;
    const { mostChars } = this.#share;
    for (let sum = this.#share.chars + chars; sum > mostChars && count < this.#entries.length; count++)
      sum -= this.#entries[count]?.chars ?? 0;
    return this.#entries.slice(0, count);
  }

  /** The images that no later entry holds go to the table, those of them that are wanted. */
  #moveOut(entries: readonly Entry[], isWanted: (image: JournaledPage) => boolean): void {
    const images = entries.flatMap((entry) => this.#latestOf(entry)).filter(isWanted);
    this.table.put(images.flatMap(({ row }) => row ?? []));
    for (const { key, slot, row } of images) if (!row) this.table.deletePage(key, slot);
  }

  /** Those images of an entry that no later one holds. */
  #latestOf({ turn, pages }: Entry): LatestPage[] {
    return pages.flatMap(({ key, slot }) => {
      const held = this.#latest.get(key)?.get(slot);
      return held?.turn === turn ? held : [];
    });
  }

  #hold(number: number, turn: number, { images, text }: JournalRow): void {
    this.#entries.push({ number, turn, chars: text.length, pages: images.map(({ key, slot }) => ({ key, slot })) });
    this.#share.chars += text.length;
    this.#nextNumber = Math.max(this.#nextNumber, number + 1);
    for (const image of images) {
      const ofKey = this.#latest.get(image.key) ?? new Map<number, LatestPage>();
      ofKey.set(image.slot, { ...image, turn });
      this.#latest.set(image.key, ofKey);
    }
  }

  #release(oldest: readonly Entry[]): void {
    for (const entry of oldest) {
      this.#share.chars -= entry.chars;
      for (const { key, slot } of this.#latestOf(entry)) {
        this.#latest.get(key)?.delete(slot);
        if (this.#latest.get(key)?.size === 0) this.#latest.delete(key);
      }
    }
    this.#entries.splice(0, oldest.length);
  }

  #write(number: number, turn: number, text: string): void {
    this.sql.createTable("journal_v1", "(number INTEGER PRIMARY KEY, turn INTEGER NOT NULL, pages TEXT NOT NULL)");
    this.sql.run(
      "INSERT INTO journal_v1 (number, turn, pages) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET turn = excluded.turn, pages = excluded.pages",
      number,
      turn,
      text,
    );
  }

  #delete(number: number): void {
    this.sql.run("DELETE FROM journal_v1 WHERE number = ?", number);
  }
}

/** What goes into one row. */
interface JournalRow {
  readonly images: readonly JournaledPage[];
  readonly text: string;
}

/** The images as the texts of rows that are not too long. A page's text is JSON already: it is not encoded again. */
function rowsOf(images: readonly JournaledPage[]): JournalRow[] {
  const parts: { images: JournaledPage[]; texts: string[]; chars: number }[] = [];
  for (const image of images) {
    const text = textOf(image);
    const last = parts.at(-1);
    if (last && last.chars + text.length < ENTRY_CHARS) {
      last.images.push(image);
      last.texts.push(text);
      last.chars += text.length;
    } else parts.push({ images: [image], texts: [text], chars: text.length });
  }
  return parts.map(({ images, texts }) => ({ images, text: `[${texts.join()}]` }));
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
