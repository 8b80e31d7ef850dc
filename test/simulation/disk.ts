import type { OverrideRow, PageChange, PageRow, PageStore } from "../../src/object/page-store";

export const DISK_FULL = "the disk is full";

/** The store as an object uses it. */
export type WokenStore = PageStore & {
  readonly isEmpty: boolean;
  readonly hasTables: boolean;
  deleteAll(): Promise<void>;
};

/** The durable storage of one object. */
export interface ObjectDisk {
  /** The store, as an object finds it on waking. */
  open(): WokenStore;
  commit(): void;
  crash(): void;
  /** Does the work, and rolls its writes back. */
  trial<T>(work: () => T): T;
  close(): void;
}

/**
 * A disk for pages. Writes are visible at once and durable once they are committed; a crash rolls back the others. Rows
 * are kept as text, so nothing in the memory of an object survives on the disk.
 */
export class Disk implements WokenStore, ObjectDisk {
  readonly rows = new Map<string, PageRow>();
  readonly overrideRows = new Map<string, OverrideRow>();
  /** Roll back the uncommitted writes, in the order of the writes. */
  #rollbacks: (() => void)[] = [];
  #isTrial = false;

  /** `isFullNow` is asked before each write. If it says so, the whole write fails. */
  constructor(private readonly isFullNow: () => boolean = () => false) {}

  get isEmpty(): boolean {
    return this.rows.size === 0 && this.overrideRows.size === 0;
  }

  get hasTables(): boolean {
    return !this.isEmpty;
  }

  open(): WokenStore {
    return this;
  }

  /** Nothing to do: only an empty disk is deleted. */
  async deleteAll(): Promise<void> {}

  close(): void {}

  /** Does the work on a disk that is never full, and rolls its writes back. */
  trial<T>(work: () => T): T {
    const before = this.#rollbacks.length;
    this.#isTrial = true;
    try {
      return work();
    } finally {
      this.#isTrial = false;
      for (const rollBack of this.#rollbacks.splice(before).reverse()) rollBack();
    }
  }

  *pages(key: string): Generator<PageRow> {
    const rows = [...this.rows.values()].filter((row) => row.key === key);
    yield* rows.sort((a, b) => a.firstAtMs - b.firstAtMs || a.lastAtMs - b.lastAtMs);
  }

  pagesOf(keys: readonly string[]): [key: string, pages: Iterable<PageRow>][] {
    return keys.map((key) => [key, this.pages(key)]);
  }

  loadPage(key: string, slot: number): string | undefined {
    return this.rows.get(`${key} ${slot}`)?.text;
  }

  put(rows: readonly PageChange[]): void {
    if (rows.length > 0 && this.#isFull()) throw new Error(DISK_FULL);
    for (const { key, slot, expiresAtMs, firstAtMs, lastAtMs, text } of rows)
      this.#change(this.rows, `${key} ${slot}`, { key, slot, expiresAtMs, firstAtMs, lastAtMs, text });
  }

  deleteKey(key: string): void {
    for (const { slot } of this.pages(key)) this.deletePage(key, slot);
  }

  deletePage(key: string, slot: number): void {
    this.#change(this.rows, `${key} ${slot}`, undefined);
  }

  pagesAfter(key: string, slot: number, count: number, byMs = Number.POSITIVE_INFINITY): PageRow[] {
    const inTime = [...this.rows.values()].filter(({ lastAtMs }) => lastAtMs <= byMs);
    const rows = inTime.sort((a, b) => (a.key === b.key ? a.slot - b.slot : a.key < b.key ? -1 : 1));
    return rows.filter((row) => row.key > key || (row.key === key && row.slot > slot)).slice(0, count);
  }

  // This disk has no journal.
  readonly newestTurn = 0;

  checkpoint(): boolean {
    return false;
  }

  readonly overrides: WokenStore["overrides"] = {
    load: (key) => this.overrideRows.get(key),
    put: (key, row) => {
      if (this.#isFull()) throw new Error(DISK_FULL);
      this.#change(this.overrideRows, key, row);
    },
    delete: (key) => this.#change(this.overrideRows, key, undefined),
    deleteEnded: (nowMs) => {
      const keys = [...this.overrideRows].filter(([, { endsAtMs }]) => endsAtMs <= nowMs).map(([key]) => key);
      for (const key of keys) this.overrides.delete(key);
      const ends = [...this.overrideRows.values()].map(({ endsAtMs }) => endsAtMs);
      return { keys, nextEndMs: ends.length > 0 ? Math.min(...ends) : undefined };
    },
  };

  /** Another disk with the same rows. */
  copy(): Disk {
    const copy = new Disk();
    for (const [name, row] of this.rows) copy.rows.set(name, row);
    for (const [key, row] of this.overrideRows) copy.overrideRows.set(key, row);
    return copy;
  }

  commit(): void {
    this.#rollbacks = [];
  }

  crash(): void {
    for (const rollBack of this.#rollbacks.splice(0).reverse()) rollBack();
  }

  #isFull(): boolean {
    return !this.#isTrial && this.isFullNow();
  }

  #change<T>(table: Map<string, T>, name: string, row: T | undefined): void {
    const old = table.get(name);
    if (row) table.set(name, row);
    else table.delete(name);
    this.#rollbacks.push(() => {
      if (old) table.set(name, old);
      else table.delete(name);
    });
  }
}
