import { DurableObject } from "cloudflare:workers";
import { Book } from "./book";
import type { Recent, Sums, Totals } from "./protocol";
import { StatsStore } from "./stats-store";

/** Between two writes, at least: rows written are billed, and what a crash loses here is only told to people. */
const WRITE_REST_MS = 10_000;
/** When nothing has come for so long, no minute and no hour is of the last day any more. */
const FORGET_AFTER_MS = 25 * 3_600_000;

/**
 * The Durable Object that adds up what all isolates have counted: one for the whole service. It takes no part in any
 * decision. What came since the last write is lost when it crashes.
 */
export class StatsObject extends DurableObject {
  protected readonly store: StatsStore;
  protected book: Book;
  #wroteAtMs = Number.NEGATIVE_INFINITY;
  #willWrite = false;

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.store = new StatsStore(ctx.storage);
    this.book = new Book(this.store);
  }

  /** The object's own time: a clock for tests is put in its place where there is one. */
  protected now(): number {
    return Date.now();
  }

  add(sums: Sums): void {
    this.book.add(sums, this.now());
    this.#writeSoon();
  }

  /** Writes at once what came since the last write: whoever runs it is about to end. */
  write(): void {
    if (this.#willWrite) this.#write();
  }

  recent(minutes: number): Recent {
    return this.book.recent(minutes, this.now());
  }

  totals(): Totals {
    return this.book.totals(this.now());
  }

  /** Whenever something is stored there is an alarm, which forgets all of it when nothing comes any more. */
  override async alarm(): Promise<void> {
    const idleAtMs = this.book.lastMs + FORGET_AFTER_MS;
    if (this.now() < idleAtMs) await this.ctx.storage.setAlarm(idleAtMs);
    else await this.forget();
  }

  protected async forget(): Promise<void> {
    await this.store.deleteAll();
    this.book = new Book(this.store);
  }

  /** By a timer also when it is due: a write that fails must not look like sums that have not arrived. */
  #writeSoon(): void {
    if (this.#willWrite) return;
    this.#willWrite = true;
    const restedMs = Math.max(0, this.now() - this.#wroteAtMs);
    setTimeout(() => this.#write(), Math.max(0, WRITE_REST_MS - restedMs));
  }

  #write(): void {
    this.#willWrite = false;
    this.#wroteAtMs = this.now();
    // Before the rows: without an alarm they would never be forgotten, and an alarm without rows does no harm. Not
    // awaited: it belongs to the same transaction.
    if (this.store.isEmpty) void this.ctx.storage.setAlarm(this.book.lastMs + FORGET_AFTER_MS);
    this.book.write();
  }
}
