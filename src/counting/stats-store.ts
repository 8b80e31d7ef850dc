import { Sql } from "../object/store/sql";

/** `minute` and `hour` are rings: a slot may still have the row of an earlier day. */
export type RowKind = "minute" | "hour" | "totals";

export interface StatsRow {
  readonly kind: RowKind;
  readonly slot: number;
  /** When the minute or hour began; of the totals, when they were last added to. */
  readonly atMs: number;
  readonly body: string;
}

type StoredRow = Pick<StatsRow, "atMs" | "body">;

const TABLE = "stats_v1";

/** The object's table, made by the first write: docs/storage.md describes it. All SQL of the object is here. */
export class StatsStore {
  readonly #sql: Sql;

  constructor(storage: DurableObjectStorage) {
    this.#sql = new Sql(storage);
  }

  /** Rows written since the object woke. Tests hold them to a budget. */
  get rowsWritten(): number {
    return this.#sql.rowsWritten;
  }

  get isEmpty(): boolean {
    return !this.#sql.hasTable(TABLE);
  }

  /** There are rows that are to be deleted some day: all but the totals. */
  get hasDays(): boolean {
    return !this.isEmpty && this.#sql.run(`SELECT 1 FROM ${TABLE} WHERE kind != 'totals' LIMIT 1`).length > 0;
  }

  load(kind: RowKind, slot: number): StoredRow | undefined {
    if (this.isEmpty) return undefined;
    const [row] = this.#sql.run(`SELECT at_ms, body FROM ${TABLE} WHERE kind = ? AND slot = ?`, kind, slot);
    return row && rowOf(row);
  }

  /** All rows of a kind from an instant on, oldest first. */
  since(kind: RowKind, fromMs: number): StoredRow[] {
    if (this.isEmpty) return [];
    const query = `SELECT at_ms, body FROM ${TABLE} WHERE kind = ? AND at_ms >= ? ORDER BY at_ms`;
    return this.#sql.run(query, kind, fromMs).map(rowOf);
  }

  /** Replaces the rows of the same kind and slot: all of them, or none if it throws. */
  put(rows: readonly StatsRow[]): void {
    this.#sql.inTransaction(() => {
      this.#sql.createTable(
        TABLE,
        `(
           kind TEXT NOT NULL, slot INTEGER NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL,
           PRIMARY KEY (kind, slot)
         ) WITHOUT ROWID`,
      );
      for (const { kind, slot, atMs, body } of rows)
        this.#sql.run(
          `INSERT INTO ${TABLE} (kind, slot, at_ms, body) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body`,
          kind,
          slot,
          atMs,
          body,
        );
    });
  }

  /** Deletes the minutes and the hours. */
  deleteDays(): void {
    if (!this.isEmpty) this.#sql.run(`DELETE FROM ${TABLE} WHERE kind != 'totals'`);
  }

  /** Empties the object: it then occupies no storage, and has no alarm. */
  deleteAll(): Promise<void> {
    return this.#sql.deleteAll();
  }
}

function rowOf([atMs, body]: SqlStorageValue[]): StoredRow {
  return { atMs: Number(atMs), body: String(body) };
}
