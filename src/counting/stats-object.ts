import { DurableObject } from "cloudflare:workers";
import { Book } from "./book";
import type { Recent, Sums, Totals } from "./protocol";
import { StatsStore } from "./stats-store";

/** The least time between two writes: written rows are billed, and no decision needs what a crash loses. */
const WRITE_REST_MS = 10_000;
/** After this time without counts, all minutes and hours are more than a day old. */
const FORGET_AFTER_MS = 25 * 3_600_000;

/**
 * The Durable Object that adds up the counts of all isolates. The service has one. It takes part in no decision. A
 * crash loses the counts since the last write.
 */
export class StatsObject extends DurableObject {
  protected readonly store: StatsStore;
  protected book: Book;
  #writtenAtMs = Number.NEGATIVE_INFINITY;
  #isWritePending = false;

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.store = new StatsStore(ctx.storage);
    this.book = new Book(this.store);
  }

  /** The object's own time. Tests replace it. */
  protected now(): number {
    return Date.now();
  }

  add(sums: Sums): void {
    this.book.add(sums, this.now());
    this.#writeSoon();
  }

  /** Writes at once, since the service is about to end. */
  write(): void {
    if (this.#isWritePending) this.#write();
  }

  recent(minutes: number): Recent {
    return this.book.recent(minutes, this.now());
  }

  totals(): Totals {
    return this.book.totals(this.now());
  }

  /** Rows always come with an alarm, which deletes them when no counts arrive any more. */
  override async alarm(): Promise<void> {
    const idleAtMs = this.book.lastMs + FORGET_AFTER_MS;
    if (this.now() < idleAtMs) await this.ctx.storage.setAlarm(idleAtMs);
    else await this.forget();
  }

  protected async forget(): Promise<void> {
    await this.store.deleteAll();
    this.book = new Book(this.store);
  }

  /**
   * Uses a timer even if a write is due: a failed write must not fail the call that adds, whose sums would be sent
   * again.
   */
  #writeSoon(): void {
    if (this.#isWritePending) return;
    this.#isWritePending = true;
    const restedMs = Math.max(0, this.now() - this.#writtenAtMs);
    setTimeout(() => this.#write(), Math.max(0, WRITE_REST_MS - restedMs));
  }

  #write(): void {
    this.#isWritePending = false;
    this.#writtenAtMs = this.now();
    // Before the rows: rows without an alarm would never be deleted, and an alarm without rows does no harm. Not
    // awaited: it belongs to the same transaction.
    if (this.store.isEmpty) void this.ctx.storage.setAlarm(this.book.lastMs + FORGET_AFTER_MS);
    this.book.write();
  }
}
