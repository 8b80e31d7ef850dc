import type { KeyOverride } from "../core/override";
import { Sql } from "../object/store/sql";
import type { MaybeOverridden, OrderKind, OrdersQuestion, OrderToRecord, Recorded, RecordedOrder } from "./protocol";

/** How long an order is kept. */
export const KEPT_MS = 30 * 86_400_000;

/**
 * How much longer than until its end an override is taken to be in force perhaps: it ends by the clock of the key's object,
 * which may be behind, and an order may arrive late.
 */
const END_MARGIN_MS = 3_600_000;

const ORDERS = "orders_v1";
const OVERRIDDEN = "overridden_v1";

/** The object's tables, made by the first order: docs/storage.md describes them. All SQL of the audit is here. */
export class AuditStore {
  readonly #sql: Sql;

  constructor(storage: DurableObjectStorage) {
    this.#sql = new Sql(storage);
  }

  get isEmpty(): boolean {
    return !this.#sql.hasTable(ORDERS);
  }

  /** Records an order, and the key that it may override: both, or neither if it throws. */
  record({ id, kind, key, by, override }: OrderToRecord, nowMs: number): Recorded {
    const recorded = this.#recorded(id);
    if (recorded) return recorded;
    const atMs = nowMs;
    const endsAtMs = override && ("atMs" in override.ends ? override.ends.atMs : nowMs + override.ends.inMs);
    const body = override && endsAtMs !== undefined ? bodyOf({ ...override, endsAtMs }) : "";
    let number = 0;
    this.#sql.inTransaction(() => {
      this.#create();
      const insert = `INSERT INTO ${ORDERS} (id, at_ms, kind, key, token, override, done) VALUES (?, ?, ?, ?, ?, ?, 0)`;
      number = Number(this.#sql.run(`${insert} RETURNING number`, id, atMs, kind, key, by, body)[0]?.[0]);
      if (endsAtMs !== undefined) this.#mayOverride(key, number, atMs, endsAtMs);
    });
    return { number, atMs };
  }

  /** Notes that an order was carried out, with the override as it was set. */
  confirm(number: number, set: KeyOverride | undefined): void {
    if (this.isEmpty) return;
    this.#sql.inTransaction(() => {
      const done = `UPDATE ${ORDERS} SET done = 1 WHERE number = ? RETURNING kind, key`;
      const [kind, key] = this.#sql.run(done, number)[0]?.map(String) ?? [];
      if (key === undefined) return;
      if (kind === "lift_override")
        this.#sql.run(`UPDATE ${OVERRIDDEN} SET lifted = 1 WHERE key = ? AND number < ?`, key, number);
      if (!set) return;
      this.#sql.run(`UPDATE ${ORDERS} SET override = ? WHERE number = ?`, bodyOf(set), number);
      const untilMs = set.endsAtMs + END_MARGIN_MS;
      this.#sql.run(`UPDATE ${OVERRIDDEN} SET until_ms = max(until_ms, ?) WHERE key = ?`, untilMs, key);
    });
  }

  /** The orders that are kept, newest first. */
  orders({ key, before = Number.MAX_SAFE_INTEGER, most }: OrdersQuestion, nowMs: number): RecordedOrder[] {
    if (this.isEmpty) return [];
    const ofKey = key === undefined ? "" : "AND key = ?";
    const rows = this.#sql.run(
      `SELECT number, at_ms, kind, key, token, override, done FROM ${ORDERS}
       WHERE number < ? AND at_ms > ? ${ofKey} ORDER BY number DESC LIMIT ?`,
      ...[before, nowMs - KEPT_MS, ...(key === undefined ? [] : [key]), most],
    );
    return rows.map(orderOf);
  }

  /** The keys that may have an override in force, by key, from the first after `after` on. */
  overridden(after: string, most: number, nowMs: number): MaybeOverridden[] {
    if (this.isEmpty) return [];
    const query = `SELECT key, number, ordered_ms, lifted FROM ${OVERRIDDEN}
      WHERE key > ? AND until_ms > ? ORDER BY key LIMIT ?`;
    return this.#sql.run(query, after, nowMs, most).map(([key, number, orderedAtMs, lifted]) => ({
      key: String(key),
      number: Number(number),
      orderedAtMs: Number(orderedAtMs),
      isLifted: lifted === 1,
    }));
  }

  /** Drops keys that have no override any more, unless a later order set one. */
  dropOverridden(keys: readonly Pick<MaybeOverridden, "key" | "number">[]): void {
    if (this.isEmpty) return;
    for (const { key, number } of keys)
      this.#sql.run(`DELETE FROM ${OVERRIDDEN} WHERE key = ? AND number = ?`, key, number);
  }

  /** Deletes what is not kept any more. Returns when the next row is due, undefined if none is left. */
  deleteExpired(nowMs: number): number | undefined {
    if (this.isEmpty) return undefined;
    this.#sql.run(`DELETE FROM ${ORDERS} WHERE at_ms <= ?`, nowMs - KEPT_MS);
    this.#sql.run(`DELETE FROM ${OVERRIDDEN} WHERE until_ms <= ?`, nowMs);
    const due = this.#sql.run(
      `SELECT min(due) FROM (SELECT min(at_ms) + ${KEPT_MS} AS due FROM ${ORDERS}
       UNION ALL SELECT min(until_ms) FROM ${OVERRIDDEN})`,
    )[0]?.[0];
    return due === null || due === undefined ? undefined : Number(due);
  }

  /** Empties the object: it then occupies no storage, and has no alarm. */
  deleteAll(): Promise<void> {
    return this.#sql.deleteAll();
  }

  #recorded(id: string): Recorded | undefined {
    if (this.isEmpty) return undefined;
    const [row] = this.#sql.run(`SELECT number, at_ms FROM ${ORDERS} WHERE id = ?`, id);
    return row && { number: Number(row[0]), atMs: Number(row[1]) };
  }

  #mayOverride(key: string, number: number, atMs: number, endsAtMs: number): void {
    this.#sql.run(
      `INSERT INTO ${OVERRIDDEN} (key, number, ordered_ms, until_ms, lifted) VALUES (?, ?, ?, ?, 0)
       ON CONFLICT DO UPDATE SET number = excluded.number, ordered_ms = excluded.ordered_ms, lifted = 0,
         until_ms = max(until_ms, excluded.until_ms)`,
      key,
      number,
      atMs,
      endsAtMs + END_MARGIN_MS,
    );
  }

  #create(): void {
    if (!this.isEmpty) return;
    // AUTOINCREMENT: a number must not come back when its order has been deleted.
    this.#sql.createTable(
      ORDERS,
      `(
         number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL,
         kind TEXT NOT NULL, key TEXT NOT NULL, token TEXT NOT NULL, override TEXT NOT NULL, done INTEGER NOT NULL
       )`,
    );
    this.#sql.run(`CREATE INDEX ${ORDERS}_by_key ON ${ORDERS} (key, number)`);
    this.#sql.createTable(
      OVERRIDDEN,
      `(
         key TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL, ordered_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
         lifted INTEGER NOT NULL
       ) WITHOUT ROWID`,
    );
  }
}

function bodyOf({ kind, reason, endsAtMs, layers }: KeyOverride): string {
  return JSON.stringify({ kind, reason, endsAtMs, ...(layers && { layers }) });
}

function orderOf([number, atMs, kind, key, by, override, done]: SqlStorageValue[]): RecordedOrder {
  return {
    number: Number(number),
    atMs: Number(atMs),
    kind: String(kind) as OrderKind,
    key: String(key),
    by: String(by),
    ...(override !== "" && { override: JSON.parse(String(override)) as KeyOverride }),
    isDone: done === 1,
  };
}
