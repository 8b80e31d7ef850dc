import type { OverrideRow, PageChange, PageRow, PageStore } from "../../src/object/page-store";

export const DISK_FULL = "the disk is full";

/** A store, as an object knows it. */
export type WokenStore = PageStore & { readonly isEmpty: boolean; deleteAll(): Promise<void> };

/** What an object keeps its rows on. */
export interface ObjectDisk {
  /** The store, as an object that wakes finds it. */
  open(): WokenStore;
  commit(): void;
  crash(): void;
  /** Does the work, and takes back what it wrote. */
  trial<T>(work: () => T): T;
  close(): void;
}

/**
 * A disk for pages: writes are seen at once and are durable once they are committed. A crash takes back what was not.
 * Each row's text is kept as it is, so nothing of the memory of an object survives in it.
 */
export class Disk implements WokenStore, ObjectDisk {
  readonly rows = new Map<string, PageRow>();
  readonly overrideRows = new Map<string, OverrideRow>();
  #uncommitted: (() => void)[] = [];
  #isTrial = false;

  /** `isFull` is asked before each write, which then fails as a whole. */
  constructor(private readonly isFullNow: () => boolean = () => false) {}

  get isEmpty(): boolean {
    return this.rows.size === 0 && this.overrideRows.size === 0;
  }

  open(): WokenStore {
    return this;
  }

  /** An empty one has nothing more to delete. */
  async deleteAll(): Promise<void> {}

  close(): void {}

  /** Does the work on a disk that is never full, and takes back what it wrote. */
  trial<T>(work: () => T): T {
    const before = this.#uncommitted.length;
    this.#isTrial = true;
    try {
      return work();
    } finally {
      this.#isTrial = false;
      for (const undo of this.#uncommitted.splice(before).reverse()) undo();
    }
  }

  *pages(key: string): Generator<PageRow> {
    const rows = [...this.rows.values()].filter((row) => row.key === key);
    yield* rows.sort((a, b) => a.firstAtMs - b.firstAtMs || a.lastAtMs - b.lastAtMs);
  }

  loadPage(key: string, slot: number): string | undefined {
    return this.rows.get(`${key} ${slot}`)?.text;
  }

  put(rows: readonly PageChange[]): void {
    if (rows.length > 0 && this.#isFull()) throw new Error(DISK_FULL);
    for (const { appended, ...row } of rows) this.#change(this.rows, `${row.key} ${row.slot}`, row);
  }

  deleteKey(key: string): void {
    for (const { slot } of this.pages(key)) this.deletePage(key, slot);
  }

  deletePage(key: string, slot: number): void {
    this.#change(this.rows, `${key} ${slot}`, undefined);
  }

  pagesAfter(key: string, slot: number, count: number, byMs = Number.POSITIVE_INFINITY): PageRow[] {
    const there = [...this.rows.values()].filter(({ lastAtMs }) => lastAtMs <= byMs);
    const rows = there.sort((a, b) => (a.key === b.key ? a.slot - b.slot : a.key < b.key ? -1 : 1));
    return rows.filter((row) => row.key > key || (row.key === key && row.slot > slot)).slice(0, count);
  }

  // There is no journal here.
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

  /** Another disk that holds the same. */
  copy(): Disk {
    const copy = new Disk();
    for (const [name, row] of this.rows) copy.rows.set(name, row);
    for (const [key, row] of this.overrideRows) copy.overrideRows.set(key, row);
    return copy;
  }

  /** How many writes are not durable yet: an answer that depends on them waits until as many are committed. */
  get pending(): number {
    return this.#uncommitted.length;
  }

  commit(): void {
    this.#uncommitted = [];
  }

  crash(): void {
    for (const undo of this.#uncommitted.splice(0).reverse()) undo();
  }

  #isFull(): boolean {
    return !this.#isTrial && this.isFullNow();
  }

  #change<T>(table: Map<string, T>, name: string, row: T | undefined): void {
    const old = table.get(name);
    if (row) table.set(name, row);
    else table.delete(name);
    this.#uncommitted.push(() => {
      if (old) table.set(name, old);
      else table.delete(name);
    });
  }
}
