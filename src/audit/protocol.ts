import type { KeyOverride } from "../core/override";
import type { OverrideToSet } from "../object/protocol";

/**
 * Messages between isolates and the audit object. During a deploy old and new code must both be able to read them: add
 * optional fields, never rename or retype a field.
 */

export const ORDER_KINDS = ["set_override", "lift_override", "reset_key"] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** What an admin orders about one key. */
export interface Order {
  readonly kind: OrderKind;
  readonly key: string;
  /** The name of the token. */
  readonly by: string;
  /** Only of the kind `set_override`. */
  readonly override?: OverrideToSet;
}

/** An order before it is carried out. An order that is sent again has the same id, and is recorded once. */
export interface OrderToRecord extends Order {
  readonly id: string;
}

/** The place of a recorded order, and when it was recorded. */
export interface Recorded {
  /** Increases with every order. */
  readonly number: number;
  readonly atMs: number;
}

export interface RecordedOrder extends Recorded, Omit<Order, "override"> {
  /** As it was set. Before that is known, it ends by the audit object's clock. */
  readonly override?: KeyOverride;
  /** The order was carried out. False: it may have been carried out or not. */
  readonly isDone: boolean;
}

export interface OrdersQuestion {
  readonly key?: string | undefined;
  /** Only orders with a smaller number. */
  readonly before?: number | undefined;
  readonly most: number;
}

/** A key that may have an override in force. Its object knows. */
export interface MaybeOverridden {
  readonly key: string;
  /** The last order that set an override of the key. */
  readonly number: number;
  readonly orderedAtMs: number;
  /** An order that was recorded later was carried out, and lifted the override. */
  readonly isLifted: boolean;
}
