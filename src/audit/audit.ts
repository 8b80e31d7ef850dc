import type { Config } from "../config/config";
import type { KeyOverride } from "../core/override";
import { logFault } from "../fault";
import { callWithin } from "../objects/deadline";
import type { Restrictable } from "../objects/jurisdiction";
import type { Timing } from "../objects/timing";
import { Refusal } from "../request/refusal";
import type { MaybeOverridden, Order, OrdersQuestion, OrderToRecord, Recorded, RecordedOrder } from "./protocol";

/** The calls of the audit object. */
export interface AuditStub {
  record(order: OrderToRecord): Promise<Recorded>;
  confirm(number: number, set?: KeyOverride): Promise<void>;
  orders(question: OrdersQuestion): Promise<RecordedOrder[]>;
  overridden(after: string, most: number): Promise<MaybeOverridden[]>;
  dropOverridden(keys: readonly Pick<MaybeOverridden, "key" | "number">[]): Promise<void>;
}

export interface AuditNamespace extends Restrictable {
  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): AuditStub;
}

/** The name of the only audit object. */
export const AUDIT_NAME = "audit";

/** The audit object, as the Worker calls it. */
export class Audit {
  constructor(
    private readonly namespace: AuditNamespace,
    private readonly config: Pick<Config, "locationHint" | "deadlineMs">,
    private readonly timing: Timing,
  ) {}

  /** @throws Refusal `unreachable`. The order may be recorded nevertheless, and must not be carried out. */
  record(order: Order): Promise<Recorded> {
    const identified = { ...order, id: crypto.randomUUID() };
    return this.#call(
      (stub) => stub.record(identified),
      "The order could not be recorded, so nothing was done. Try again.",
    );
  }

  /** Notes that an order was carried out. If that fails, the order stays recorded, as one that may not have been. */
  async confirm({ number }: Recorded, set?: KeyOverride): Promise<void> {
    try {
      await this.#callWithin((stub) => stub.confirm(number, set));
    } catch (error) {
      logFault("order_not_confirmed", error);
    }
  }

  /** @throws Refusal `unreachable` */
  orders(question: OrdersQuestion): Promise<RecordedOrder[]> {
    return this.#call((stub) => stub.orders(question), "The audit could not be reached in time. Try again.");
  }

  /** @throws Refusal `unreachable` */
  overridden(after: string, most: number): Promise<MaybeOverridden[]> {
    return this.#call((stub) => stub.overridden(after, most), "The audit could not be reached in time. Try again.");
  }

  /** Keys that can't be dropped are only asked about again. */
  async dropOverridden(keys: readonly MaybeOverridden[]): Promise<void> {
    if (keys.length === 0) return;
    try {
      await this.#callWithin((stub) => stub.dropOverridden(keys.map(({ key, number }) => ({ key, number }))));
    } catch (error) {
      logFault("overridden_keys_not_dropped", error);
    }
  }

  async #call<T>(call: (stub: AuditStub) => Promise<T>, message: string): Promise<T> {
    try {
      return await this.#callWithin(call);
    } catch (error) {
      logFault("audit_unreachable", error);
      throw new Refusal("unreachable", message);
    }
  }

  #callWithin<T>(call: (stub: AuditStub) => Promise<T>): Promise<T> {
    const { locationHint, deadlineMs } = this.config;
    const where = locationHint === undefined ? {} : { locationHint };
    return callWithin(deadlineMs, () => call(this.namespace.getByName(AUDIT_NAME, where)), this.timing);
  }
}
