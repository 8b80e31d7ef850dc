/** The object's database, and how many rows were written to it: what Cloudflare bills for. */
export class Sql {
  rowsWritten = 0;
  /** The tables that exist; undefined until they are read, and again after a transaction that failed. */
  #tables: ReadonlySet<string> | undefined;

  constructor(private readonly storage: DurableObjectStorage) {}

  run(sql: string, ...bindings: (string | number)[]): SqlStorageValue[][] {
    const cursor = this.storage.sql.exec(sql, ...bindings);
    const rows = [...cursor.raw()];
    this.rowsWritten += cursor.rowsWritten;
    return rows;
  }

  /** The rows one at a time, for as long as nothing is written. */
  each(sql: string, ...bindings: (string | number)[]): Iterable<SqlStorageValue[]> {
    return this.storage.sql.exec(sql, ...bindings).raw();
  }

  hasTable(name: string): boolean {
    this.#tables ??= new Set(this.run("SELECT name FROM sqlite_master WHERE type = 'table'").map(String));
    return this.#tables.has(name);
  }

  /** Makes a table, unless it exists. */
  createTable(name: string, columns: string): void {
    if (this.hasTable(name)) return;
    this.run(`CREATE TABLE IF NOT EXISTS ${name} ${columns}`);
    this.forgetTables();
  }

  /** Reads again which tables exist before the next use of one. */
  forgetTables(): void {
    this.#tables = undefined;
  }

  /** Does all of the work, or none of it if it throws. A table that the work had made is gone then. */
  atOnce(work: () => void): void {
    try {
      this.storage.transactionSync(work);
    } catch (error) {
      this.forgetTables();
      throw error;
    }
  }
}
