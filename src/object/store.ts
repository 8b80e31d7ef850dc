/** A row of the table: a page of a key's events. */
export interface Row {
  readonly key: string;
  readonly slot: number;
  /** From when on no window can see any of the page's events. */
  readonly expiresAtMs: number;
  /** When its first and its last event were admitted: the order of a key's pages. */
  readonly firstAtMs: number;
  readonly lastAtMs: number;
  readonly text: string;
}

/** A statement has at most 100 parameters on Cloudflare, and a row takes six. */
const MOST_ROWS_PUT = 16;

/** What accounts and ledgers need of a store, which is all that a simulation must have of one. */
export type PageStore = Pick<
  Store,
  "pages" | "loadPage" | "atomically" | "put" | "deleteKey" | "deletePage" | "pagesAfter"
>;

/**
 * The object's table, and all of the SQL. The name carries the version of the schema, so that a version costs no row
 * of its own; docs/storage.md says what each column means.
 *
 * The table is made at the first write: reading must leave nothing behind, or every key that was ever asked about
 * would occupy storage that no alarm empties. Making it is billed as two rows.
 */
export class Store {
  #exists: boolean;
  /** Rows of the table written since the object woke: what the tests hold to their budget. */
  rowsWritten = 0;

  constructor(private readonly storage: DurableObjectStorage) {
    this.#exists = this.#run("SELECT 1 FROM sqlite_master WHERE name = 'pages_v1'").length > 0;
  }

  get isEmpty(): boolean {
    return !this.#exists || this.#run("SELECT 1 FROM pages_v1 LIMIT 1").length === 0;
  }

  /** The pages of a key in their order, one at a time: a key with a million events has more text than memory holds. */
  *pages(key: string): Generator<Pick<Row, "slot" | "expiresAtMs" | "text">> {
    if (!this.#exists) return;
    const sql = "SELECT slot, expires_at_ms, events FROM pages_v1 WHERE key = ? ORDER BY first_at_ms, last_at_ms";
    for (const [slot, expiresAtMs, text] of this.storage.sql.exec(sql, key).raw())
      yield { slot: Number(slot), expiresAtMs: Number(expiresAtMs), text: String(text) };
  }

  /** The text of one page, undefined if there is none. */
  loadPage(key: string, slot: number): string | undefined {
    const text = this.#run("SELECT events FROM pages_v1 WHERE key = ? AND slot = ?", key, slot)[0]?.[0];
    return text === undefined ? undefined : String(text);
  }

  /** Does the work so that all of its writes are stored, or none if it throws. */
  atomically<T>(work: () => T): T {
    const existed = this.#exists;
    try {
      return this.storage.transactionSync(work);
    } catch (error) {
      this.#exists = existed;
      throw error;
    }
  }

  /** Stores pages, each in place of the one with its key and slot, as many by one statement as it has room for. */
  put(rows: readonly Row[]): void {
    if (rows.length > 0) this.#create();
    for (let i = 0; i < rows.length; i += MOST_ROWS_PUT) {
      const some = rows.slice(i, i + MOST_ROWS_PUT);
      this.#run(
        `INSERT INTO pages_v1 (key, slot, expires_at_ms, first_at_ms, last_at_ms, events)
         VALUES ${some.map(() => "(?, ?, ?, ?, ?, ?)").join()}
         ON CONFLICT DO UPDATE SET expires_at_ms = excluded.expires_at_ms, first_at_ms = excluded.first_at_ms,
           last_at_ms = excluded.last_at_ms, events = excluded.events`,
        ...some.flatMap(({ key, slot, expiresAtMs, firstAtMs, lastAtMs, text }) => [
          key,
          slot,
          expiresAtMs,
          firstAtMs,
          lastAtMs,
          text,
        ]),
      );
    }
  }

  deleteKey(key: string): void {
    if (this.#exists) this.#run("DELETE FROM pages_v1 WHERE key = ?", key);
  }

  deletePage(key: string, slot: number): void {
    this.#run("DELETE FROM pages_v1 WHERE key = ? AND slot = ?", key, slot);
  }

  /** Up to `count` pages in the order of the table, those after (`key`, `slot`). */
  pagesAfter(key: string, slot: number, count: number): { key: string; slot: number; expiresAtMs: number }[] {
    if (!this.#exists) return [];
    return this.#run(
      "SELECT key, slot, expires_at_ms FROM pages_v1 WHERE (key, slot) > (?, ?) ORDER BY key, slot LIMIT ?",
      key,
      slot,
      count,
    ).map(([key, slot, expiresAtMs]) => ({ key: String(key), slot: Number(slot), expiresAtMs: Number(expiresAtMs) }));
  }

  /** Empties the object wholly: it then occupies nothing, and has no alarm. */
  async deleteAll(): Promise<void> {
    this.#exists = false;
    await this.storage.deleteAll();
  }

  #create(): void {
    if (this.#exists) return;
    this.#run(
      `CREATE TABLE IF NOT EXISTS pages_v1 (
         key TEXT NOT NULL, slot INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL, first_at_ms INTEGER NOT NULL,
         last_at_ms INTEGER NOT NULL, events TEXT NOT NULL,
         PRIMARY KEY (key, slot)
       ) WITHOUT ROWID`,
    );
    this.#exists = true;
  }

  #run(sql: string, ...bindings: (string | number)[]): SqlStorageValue[][] {
    const cursor = this.storage.sql.exec(sql, ...bindings);
    const rows = [...cursor.raw()];
    this.rowsWritten += cursor.rowsWritten;
    return rows;
  }
}
