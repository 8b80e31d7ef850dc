import type { OverrideRow, OverrideStore } from "../page-store";
import type { Sql } from "./sql";

/** The overrides, a row each. As that of the pages, the table is made at the first write. */
export class OverrideTable implements OverrideStore {
  constructor(private readonly sql: Sql) {}

  get isEmpty(): boolean {
    return !this.#exists || this.sql.run("SELECT 1 FROM overrides_v1 LIMIT 1").length === 0;
  }

  /** What overrides a key, also if it has ended. */
  load(key: string): OverrideRow | undefined {
    if (!this.#exists) return undefined;
    const row = this.sql.run("SELECT ends_at_ms, override FROM overrides_v1 WHERE key = ?", key)[0];
    return row && { endsAtMs: Number(row[0]), text: String(row[1]) };
  }

  /** Stores a key's override, in place of the one that it has. */
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

  /** The keys whose override has ended and is deleted, and when the next one ends: undefined when none is left. */
  deleteEnded(nowMs: number): { keys: string[]; nextEndMs: number | undefined } {
    if (!this.#exists) return { keys: [], nextEndMs: undefined };
    const next =
      this.sql.run("SELECT min(ends_at_ms) FROM overrides_v1 WHERE ends_at_ms > ?", nowMs)[0]?.[0] ?? undefined;
    // Last: if it fails nothing is deleted, and a caller that is told of no keys is told the truth.
    const keys = this.sql.run("DELETE FROM overrides_v1 WHERE ends_at_ms <= ? RETURNING key", nowMs).map(String);
    return { keys, nextEndMs: next === undefined ? undefined : Number(next) };
  }

  /** Without the table no key has an override, and none is looked for. */
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
