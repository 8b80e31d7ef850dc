import { createRequire } from "node:module";
import type { Database, Statement } from "node-sqlite3-wasm";

/** A CommonJS module: Node does not see its exports by name. */
const sqlite: typeof import("node-sqlite3-wasm") = createRequire(import.meta.url)("node-sqlite3-wasm");

const WRITES = /^\s*(INSERT|UPDATE|CREATE)/i;

type Value = string | number;

/**
 * The part of a Durable Object's storage that the store uses, on a real SQLite in memory. Writes are visible at once and
 * durable once they are committed; a crash rolls back the others.
 */
export class SqliteStorage {
  readonly #database: Database = new sqlite.Database(":memory:");
  readonly #statements = new Map<string, Statement>();
  #depth = 0;
  #isTrial = false;

  /** `needRoom` is called before each statement that needs room. If it throws, the statement fails. */
  constructor(private readonly needRoom: () => void = () => {}) {}

  readonly sql = {
    exec: (query: string, ...bindings: Value[]) => {
      if (!this.#isTrial && WRITES.test(query)) this.needRoom();
      this.#begin();
      const rows = this.#all(query, bindings);
      return { raw: () => rows.map((row) => Object.values(row)), rowsWritten: 0 };
    },
  };

  /** Rows inserted, updated and deleted so far, as Cloudflare bills them. */
  get rowsWritten(): number {
    return Number(this.#database.get("SELECT total_changes() AS count")?.count);
  }

  transactionSync<T>(work: () => T): T {
    const name = this.#savepoint();
    try {
      const result = work();
      this.#run(`RELEASE ${name}`);
      return result;
    } catch (error) {
      this.#rollBackTo(name);
      throw error;
    } finally {
      this.#depth--;
    }
  }

  async deleteAll(): Promise<void> {
    this.#begin();
    for (const table of this.#database.all("SELECT name FROM sqlite_master WHERE type = 'table'"))
      this.#run(`DROP TABLE ${table.name}`);
  }

  /** Does the work on a disk that is never full, and rolls its writes back. */
  trial<T>(work: () => T): T {
    const name = this.#savepoint();
    this.#isTrial = true;
    try {
      return work();
    } finally {
      this.#isTrial = false;
      this.#depth--;
      this.#rollBackTo(name);
    }
  }

  commit(): void {
    if (this.#database.inTransaction) this.#run("COMMIT");
  }

  crash(): void {
    if (this.#database.inTransaction) this.#run("ROLLBACK");
  }

  close(): void {
    for (const statement of this.#statements.values()) statement.finalize();
    this.#database.close();
  }

  #begin(): void {
    if (!this.#database.inTransaction) this.#run("BEGIN");
  }

  #savepoint(): string {
    this.#begin();
    const name = `s${this.#depth++}`;
    this.#run(`SAVEPOINT ${name}`);
    return name;
  }

  #rollBackTo(name: string): void {
    this.#run(`ROLLBACK TO ${name}`);
    this.#run(`RELEASE ${name}`);
  }

  #run(query: string): void {
    this.#database.exec(query);
  }

  #all(query: string, bindings: Value[]): Record<string, Value>[] {
    const statement = this.#prepared(query);
    try {
      return statement.all(bindings) as Record<string, Value>[];
    } catch (error) {
      // A statement that failed reports the same error when it is used again.
      this.#statements.delete(query);
      throw error;
    }
  }

  #prepared(query: string): Statement {
    const statement = this.#statements.get(query) ?? this.#database.prepare(query);
    this.#statements.set(query, statement);
    return statement;
  }
}
