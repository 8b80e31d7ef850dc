import { assert } from "../../core/assert";
import type { PageRow } from "../page-store";
import type { Sql } from "./sql";

/** A statement has at most 100 parameters on Cloudflare. A row takes 6, and a continuation 5. */
const MOST_ROWS_A_STATEMENT = 16;
const MOST_CONTINUATIONS_A_STATEMENT = 20;
/** A read of 50 keys takes 80 µs, and a read of one key 6. Fewer than five keys are read faster one by one. */
const FEWEST_KEYS_A_READ = 5;
const KEYS_A_READ = 50;
/** Bounds the memory of a read: these pages are in memory at once. */
const MOST_PAGES_A_READ = 200;

/** Further events of a page that the table has. */
export interface Continuation extends Pick<PageRow, "key" | "slot" | "expiresAtMs" | "lastAtMs"> {
  /** Each event with a comma before it. */
  readonly events: string;
}

const COLUMNS = "slot, expires_at_ms, first_at_ms, last_at_ms, events";

/**
 * The pages, a row each. docs/storage.md says what each column means. The table's name carries the version of the schema, so
 * that the version needs no row of its own.
 *
 * The first write creates the table, which is billed as 2 rows. A read must not: every key that was ever asked about would
 * occupy storage that no alarm empties.
 */
export class PageTable {
  constructor(private readonly sql: Sql) {}

  get isEmpty(): boolean {
    return !this.#exists || this.sql.run("SELECT 1 FROM pages_v1 LIMIT 1").length === 0;
  }

  *pages(key: string): Generator<PageRow> {
    if (!this.#exists) return;
    const query = `SELECT ${COLUMNS} FROM pages_v1 WHERE key = ? ORDER BY first_at_ms, last_at_ms, slot`;
    for (const columns of this.sql.each(query, key)) yield rowOf(key, columns);
  }

  /**
   * The pages of several keys, in no order. Leaves out keys with too many pages for one read, those that come after such a
   * key, and what would be a read of only a few keys.
   */
  *pagesOf(keys: readonly string[]): Generator<[key: string, pages: PageRow[]]> {
    for (let i = 0; i < keys.length; i += KEYS_A_READ) {
      const some = keys.slice(i, i + KEYS_A_READ);
      if (some.length >= FEWEST_KEYS_A_READ) yield* this.#pagesOfSome(some);
    }
  }

  loadPage(key: string, slot: number): string | undefined {
    if (!this.#exists) return undefined;
    const text = this.sql.run("SELECT events FROM pages_v1 WHERE key = ? AND slot = ?", key, slot)[0]?.[0];
    return text === undefined ? undefined : String(text);
  }

  /** A page without its text, undefined if there is none. `length` is that of the text. */
  describePage(key: string, slot: number): (Omit<PageRow, "key" | "slot" | "text"> & { length: number }) | undefined {
    if (!this.#exists) return undefined;
    const row = this.sql.run(
      "SELECT expires_at_ms, first_at_ms, last_at_ms, length(events) FROM pages_v1 WHERE key = ? AND slot = ?",
      key,
      slot,
    )[0];
    if (!row) return undefined;
    const [expiresAtMs = 0, firstAtMs = 0, lastAtMs = 0, length = 0] = row.map(Number);
    return { expiresAtMs, firstAtMs, lastAtMs, length };
  }

  put(rows: readonly PageRow[]): void {
    if (rows.length === 0) return;
    this.#create();
    if (rows.length <= MOST_ROWS_A_STATEMENT) this.#insert(rows);
    else
      this.sql.inTransaction(() => {
        for (let i = 0; i < rows.length; i += MOST_ROWS_A_STATEMENT)
          this.#insert(rows.slice(i, i + MOST_ROWS_A_STATEMENT));
      });
  }

  /** Continues pages in the table, without reading their text. May take several statements: call it in a transaction. */
  continue(continuations: readonly Continuation[]): void {
    for (let i = 0; i < continuations.length; i += MOST_CONTINUATIONS_A_STATEMENT)
      this.#continue(continuations.slice(i, i + MOST_CONTINUATIONS_A_STATEMENT));
  }

  deleteKey(key: string): void {
    if (this.#exists) this.sql.run("DELETE FROM pages_v1 WHERE key = ?", key);
  }

  deletePage(key: string, slot: number): void {
    if (this.#exists) this.sql.run("DELETE FROM pages_v1 WHERE key = ? AND slot = ?", key, slot);
  }

  pagesAfter(key: string, slot: number, count: number, byMs: number): Omit<PageRow, "text" | "firstAtMs">[] {
    if (!this.#exists) return [];
    return this.sql
      .run(
        `SELECT key, slot, expires_at_ms, last_at_ms FROM pages_v1
         WHERE (key, slot) > (?, ?) AND last_at_ms <= ? ORDER BY key, slot LIMIT ?`,
        key,
        slot,
        byMs,
        count,
      )
      .map(([key, slot, expiresAtMs, lastAtMs]) => ({
        key: String(key),
        slot: Number(slot),
        expiresAtMs: Number(expiresAtMs),
        lastAtMs: Number(lastAtMs),
      }));
  }

  #pagesOfSome(keys: readonly string[]): Map<string, PageRow[]> {
    const pages = new Map<string, PageRow[]>(keys.map((key) => [key, []]));
    if (!this.#exists) return pages;
    // Always the same statement: the runtime keeps it compiled.
    const named = Array.from({ length: KEYS_A_READ }, (_, i) => keys[i] ?? "");
    const rows = this.sql.run(
      `SELECT key, ${COLUMNS} FROM pages_v1 WHERE key IN (${Array(KEYS_A_READ).fill("?").join()})
       ORDER BY key LIMIT ${MOST_PAGES_A_READ}`,
      ...named,
    );
    for (const [key, ...columns] of rows) pages.get(String(key))?.push(rowOf(String(key), columns));
    if (rows.length < MOST_PAGES_A_READ) return pages;
    // There may be more pages: of the last key that was read, and of the keys after it, which have none so far.
    const last = String(rows.at(-1)?.[0]);
    for (const key of keys) if (key === last || pages.get(key)?.length === 0) pages.delete(key);
    return pages;
  }

  /** A single statement writes all or nothing. */
  #insert(rows: readonly PageRow[]): void {
    this.sql.run(
      `INSERT INTO pages_v1 (key, slot, expires_at_ms, first_at_ms, last_at_ms, events)
       VALUES ${rows.map(() => "(?, ?, ?, ?, ?, ?)").join()}
       ON CONFLICT DO UPDATE SET expires_at_ms = excluded.expires_at_ms, first_at_ms = excluded.first_at_ms,
         last_at_ms = excluded.last_at_ms, events = excluded.events`,
      ...rows.flatMap(({ key, slot, expiresAtMs, firstAtMs, lastAtMs, text }) => [
        key,
        slot,
        expiresAtMs,
        firstAtMs,
        lastAtMs,
        text,
      ]),
    );
  }

  /** The events take the place of the last two characters of a page, `]}`, and are followed by them. */
  #continue(continuations: readonly Continuation[]): void {
    const { length } = continuations;
    const continued = this.sql.run(
      `UPDATE pages_v1 SET expires_at_ms = column3, last_at_ms = column4,
         events = substr(events, 1, length(events) - 2) || column5 || ']}'
       FROM (VALUES ${Array(length).fill("(?, ?, ?, ?, ?)").join()}) WHERE key = column1 AND slot = column2
       RETURNING 1`,
      ...continuations.flatMap(({ key, slot, expiresAtMs, lastAtMs, events }) => [
        key,
        slot,
        expiresAtMs,
        lastAtMs,
        events,
      ]),
    );
    assert(continued.length === length, "a page that is continued is in the table");
  }

  get #exists(): boolean {
    return this.sql.hasTable("pages_v1");
  }

  #create(): void {
    this.sql.createTable(
      "pages_v1",
      `(
         key TEXT NOT NULL, slot INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL, first_at_ms INTEGER NOT NULL,
         last_at_ms INTEGER NOT NULL, events TEXT NOT NULL,
         PRIMARY KEY (key, slot)
       ) WITHOUT ROWID`,
    );
  }
}

/** `columns`: those of `COLUMNS`. */
function rowOf(key: string, [slot, expiresAtMs, firstAtMs, lastAtMs, text]: readonly SqlStorageValue[]): PageRow {
  return {
    key,
    slot: Number(slot),
    expiresAtMs: Number(expiresAtMs),
    firstAtMs: Number(firstAtMs),
    lastAtMs: Number(lastAtMs),
    text: String(text),
  };
}
