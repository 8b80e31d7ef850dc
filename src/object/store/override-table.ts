import type { OverrideRow, OverrideStore } from "../page-store";
import type { Sql } from "./sql";

/** The overrides, a row each. The first write creates the table, as in `PageTable`. */
export class OverrideTable implements OverrideStore {
  constructor(private readonly sql: Sql) {}

  get isEmpty(): boolean {
    return !this.#exists || this.sql.run("SELECT 1 FROM overrides_v1 LIMIT 1").length === 0;
  }

  load(key: string): OverrideRow | undefined {
    if (!this.#exists) return undefined;
    const row = this.sql.run("SELECT ends_at_ms, override FROM overrides_v1 WHERE key = ?", key)[0];
    return row && { endsAtMs: Number(row[0]), text: String(row[1]) };
  }

  put(key: string, { endsAtMs, text }: OverrideRow): void {
    this.#create();
    this.sql.run(
      `INSERT INTO overrides_v1 (key, ends_at_ms, override) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET ends_at_ms = excluded.ends_at_ms, override = excluded.override`,
      key,
      endsAtMs,
      text,
    );
  }

  delete(key: string): void {
    if (this.#exists) this.sql.run("DELETE FROM overrides_v1 WHERE key = ?", key);
  }

  deleteEnded(nowMs: number): { keys: string[]; nextEndMs: number | undefined } {
    if (!this.#exists) return { keys: [], nextEndMs: undefined };
    const next =
      this.sql.run("SELECT min(ends_at_ms) FROM overrides_v1 WHERE ends_at_ms > ?", nowMs)[0]?.[0] ?? undefined;
    // Last, so that nothing is deleted if another statement fails: the caller must learn every deleted key.
    const keys = this.sql.run("DELETE FROM overrides_v1 WHERE ends_at_ms <= ? RETURNING key", nowMs).map(String);
    return { keys, nextEndMs: next === undefined ? undefined : Number(next) };
  }

  get #exists(): boolean {
    return this.sql.hasTable("overrides_v1");
  }

  #create(): void {
    this.sql.createTable(
      "overrides_v1",
      "(key TEXT NOT NULL PRIMARY KEY, ends_at_ms INTEGER NOT NULL, override TEXT NOT NULL) WITHOUT ROWID",
    );
  }
}
