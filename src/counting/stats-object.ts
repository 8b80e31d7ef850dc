import { DurableObject } from "cloudflare:workers";
import { logFault, setVersion } from "../fault";
import { Bookkeeper } from "./bookkeeper";
import type { Recent, Sums, Totals } from "./protocol";
import { StatsStore } from "./stats-store";

/**
 * A Durable Object that adds up the counts of some isolates. The service has a few (`stats-objects.ts`). They take part in
 * no decision. A crash loses the counts since the last write.
 */
export class StatsObject extends DurableObject {
  protected readonly store: StatsStore;
  protected bookkeeper: Bookkeeper;

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    setVersion((env as { CF_VERSION_METADATA?: WorkerVersionMetadata }).CF_VERSION_METADATA);
    this.store = new StatsStore(ctx.storage);
    this.bookkeeper = this.newBookkeeper();
  }

  /** The object's own time. Tests replace it. */
  protected now(): number {
    return Date.now();
  }

  add(sums: Sums): void {
    this.bookkeeper.add(sums);
  }

  /** Writes at once, since the service is about to end. */
  write(): void {
    this.bookkeeper.write();
  }

  recent(minutes: number): Recent {
    return this.bookkeeper.recent(minutes);
  }

  totals(): Totals {
    return this.bookkeeper.totals();
  }

  override alarm(): void {
    this.bookkeeper.onAlarm();
  }

  protected newBookkeeper(): Bookkeeper {
    return new Bookkeeper(this.store, {
      now: () => this.now(),
      // Not awaited: it belongs to the same transaction as the rows.
      setAlarm: (atMs) =>
        void this.ctx.storage
          .setAlarm(atMs)
          .catch((error: unknown) => logFault("alarm_not_set", error, { of: "counts" })),
    });
  }
}
