/** The object's database, and how many rows were written to it: what Cloudflare bills for. */
export class Sql {
  rowsWritten = 0;

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
    return this.run("SELECT 1 FROM sqlite_master WHERE name = ?", name).length > 0;
  }

  /** Does all of the work, or none of it if it throws. */
  atOnce(work: () => void): void {
    this.storage.transactionSync(work);
  }
}
