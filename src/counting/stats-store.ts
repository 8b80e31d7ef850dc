/** `minute` and `hour` are rings: what lies in a slot is as old as its row says. */
export type Kind = "minute" | "hour" | "totals";

export interface StatsRow {
  readonly kind: Kind;
  readonly slot: number;
  /** The beginning of the minute or hour; of the totals, when they were last added to. */
  readonly atMs: number;
  readonly body: string;
}

/** The object's table, and all of the SQL: docs/storage.md says what is in it. Made with the first write. */
export class StatsStore {
  #exists: boolean;
  /** Rows of the table written since the object woke: what the tests hold to their budget. */
  rowsWritten = 0;

  constructor(private readonly storage: DurableObjectStorage) {
    this.#exists = this.#hasTable();
  }

  get isEmpty(): boolean {
    return !this.#exists;
  }

  load(kind: Kind, slot: number): Pick<StatsRow, "atMs" | "body"> | undefined {
    if (!this.#exists) return undefined;
    const [row] = this.#run("SELECT at_ms, body FROM stats_v1 WHERE kind = ? AND slot = ?", kind, slot);
    return row && { atMs: Number(row[0]), body: String(row[1]) };
  }

  /** Everything of a kind from an instant on, oldest first. */
  since(kind: Kind, fromMs: number): Pick<StatsRow, "atMs" | "body">[] {
    if (!this.#exists) return [];
    const sql = "SELECT at_ms, body FROM stats_v1 WHERE kind = ? AND at_ms >= ? ORDER BY at_ms";
    return this.#run(sql, kind, fromMs).map(([atMs, body]) => ({ atMs: Number(atMs), body: String(body) }));
  }

  /** Each in place of the row with its kind and slot: all of them, or none if it throws. */
  put(rows: readonly StatsRow[]): void {
    this.storage.transactionSync(() => {
      if (!this.#exists) this.#create();
      for (const { kind, slot, atMs, body } of rows)
        this.#run(
          `INSERT INTO stats_v1 (kind, slot, at_ms, body) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body`,
          kind,
          slot,
          atMs,
          body,
        );
    });
    this.#exists = true;
  }

  /** Empties the object wholly: it then occupies nothing, and has no alarm. */
  async deleteAll(): Promise<void> {
    try {
      await this.storage.deleteAll();
    } finally {
      this.#exists = this.#hasTable();
    }
  }

  #hasTable(): boolean {
    return this.#run("SELECT 1 FROM sqlite_master WHERE name = 'stats_v1'").length > 0;
  }

  #create(): void {
    this.#run(
      `CREATE TABLE IF NOT EXISTS stats_v1 (
         kind TEXT NOT NULL, slot INTEGER NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL,
         PRIMARY KEY (kind, slot)
       ) WITHOUT ROWID`,
    );
  }

  #run(sql: string, ...bindings: (string | number)[]): SqlStorageValue[][] {
    const cursor = this.storage.sql.exec(sql, ...bindings);
    const rows = [...cursor.raw()];
    this.rowsWritten += cursor.rowsWritten;
    return rows;
  }
}
