import { DurableObject } from "cloudflare:workers";
import type { KeyOverride } from "../core/override";
import { AuditStore, KEPT_MS } from "./audit-store";
import type { MaybeOverridden, OrdersQuestion, OrderToRecord, Recorded, RecordedOrder } from "./protocol";

/** The least time between two alarms, which are billed. */
const ALARM_REST_MS = 3_600_000;
/** An alarm that is overdue by this much was lost, and does not ring any more. */
const ALARM_LOST_AFTER_MS = 600_000;

/**
 * The Durable Object that records what admins order, and which keys may have an override in force. The service has one:
 * orders are rare. It takes part in no decision.
 */
export class AuditObject extends DurableObject {
  protected readonly store: AuditStore;

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.store = new AuditStore(ctx.storage);
  }

  /** The object's own time. The test clock overrides this. */
  protected now(): number {
    return Date.now();
  }

  /** Records an order before it is carried out. The answer waits until the record is durable. */
  async record(order: OrderToRecord): Promise<Recorded> {
    const nowMs = this.now();
    // Before the rows: rows without an alarm would never be deleted, and an alarm without rows does no harm.
    const alarmAtMs = (await this.ctx.storage.getAlarm()) ?? Number.NEGATIVE_INFINITY;
    if (alarmAtMs + ALARM_LOST_AFTER_MS < nowMs) await this.ctx.storage.setAlarm(nowMs + KEPT_MS);
    return this.store.record(order, nowMs);
  }

  confirm(number: number, set?: KeyOverride): void {
    this.store.confirm(number, set);
  }

  orders(question: OrdersQuestion): RecordedOrder[] {
    return this.store.orders(question, this.now());
  }

  overridden(after: string, most: number): MaybeOverridden[] {
    return this.store.overridden(after, most, this.now());
  }

  dropOverridden(keys: readonly Pick<MaybeOverridden, "key" | "number">[]): void {
    this.store.dropOverridden(keys);
  }

  override async alarm(): Promise<void> {
    const nowMs = this.now();
    const dueMs = this.store.deleteExpired(nowMs);
    if (dueMs === undefined) await this.store.deleteAll();
    else await this.ctx.storage.setAlarm(Math.max(dueMs, nowMs + ALARM_REST_MS));
  }
}
