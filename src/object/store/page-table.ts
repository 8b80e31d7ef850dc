import type { PageRow } from "../page-store";
import type { Sql } from "./sql";

/** A statement has at most 100 parameters on Cloudflare, and a row takes 6. */
const MOST_ROWS_A_STATEMENT = 16;

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
    const columns = "slot, expires_at_ms, first_at_ms, last_at_ms, events";
    for (const [slot, expiresAtMs, firstAtMs, lastAtMs, text] of this.sql.each(
      `SELECT ${columns} FROM pages_v1 WHERE key = ? ORDER BY first_at_ms, last_at_ms, slot`,
      key,
    ))
      yield {
        key,
        slot: Number(slot),
        expiresAtMs: Number(expiresAtMs),
        firstAtMs: Number(firstAtMs),
        lastAtMs: Number(lastAtMs),
        text: String(text),
      };
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
