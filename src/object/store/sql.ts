/** The object's database. Counts the rows written, which Cloudflare bills. */
export class Sql {
  rowsWritten = 0;
  /** The tables that exist. Undefined until they are read, and again after a transaction that failed. */
  #tables: ReadonlySet<string> | undefined;

  constructor(private readonly storage: DurableObjectStorage) {}

  run(sql: string, ...bindings: (string | number)[]): SqlStorageValue[][] {
    const cursor = this.storage.sql.exec(sql, ...bindings);
    const rows = [...cursor.raw()];
    this.rowsWritten += cursor.rowsWritten;
    return rows;
  }

  /** The rows one at a time. Nothing may be written meanwhile. */
  each(sql: string, ...bindings: (string | number)[]): Iterable<SqlStorageValue[]> {
    return this.storage.sql.exec(sql, ...bindings).raw();
  }

  hasTable(name: string): boolean {
    return this.#read().has(name);
  }

  get hasTables(): boolean {
    return this.#read().size > 0;
  }

  #read(): ReadonlySet<string> {
    const tables = () => this.run("SELECT name FROM sqlite_master WHERE type = 'table'").map(String);
    // The runtime keeps alarms in a table of its own.
    this.#tables ??= new Set(tables().filter((name) => !name.startsWith("_cf_")));
    return this.#tables;
  }

  createTable(name: string, columns: string): void {
    if (this.hasTable(name)) return;
    this.run(`CREATE TABLE IF NOT EXISTS ${name} ${columns}`);
    this.forgetTables();
  }

  /** The next use of a table reads again which tables exist. */
  forgetTables(): void {
    this.#tables = undefined;
  }

  /** Deletes everything, the alarm included. The object then occupies no storage. */
  async deleteAll(): Promise<void> {
    try {
      const deleted = this.storage.deleteAll();
      // The tables are gone already, and a call may come before this goes on.
      this.forgetTables();
      await deleted;
    } finally {
      this.forgetTables();
    }
  }

  /** Does all of the work, or none of it if it throws. A table that it created is gone too then. */
  inTransaction(work: () => void): void {
    try {
      this.storage.transactionSync(work);
    } catch (error) {
      this.forgetTables();
      throw error;
    }
  }
}
