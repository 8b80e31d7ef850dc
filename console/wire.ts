import type { OverrideKind } from "../src/core/override";

/** The parts of the service's answers that the console reads. The OpenAPI document has all of them. */

export interface LimitState {
  readonly limit: number;
  readonly window_seconds: number;
  readonly used: number;
  readonly remaining: number;
  readonly reset_seconds: number;
  /** The limit counts concurrent decisions, each until it is released. */
  readonly concurrent?: boolean | undefined;
}

export interface StoredEvent {
  readonly id: string;
  readonly at: string;
  readonly cost: number;
  /** The cost at admission, if the event was settled at another cost. */
  readonly admitted_cost?: number | undefined;
  /** The event takes no place in a concurrent limit any more. */
  readonly released?: true | undefined;
}

export interface CounterState {
  readonly policy: string;
  readonly layer: string;
  readonly limits: readonly LimitState[];
  readonly events_total: number;
  /** The newest events, newest first. */
  readonly events: readonly StoredEvent[];
}

export interface LayerLimits {
  readonly policy: string;
  readonly layer: string;
  /** Limits in their notation: `10/minute`. */
  readonly limits: readonly string[];
}

export interface Override {
  readonly kind: OverrideKind;
  readonly reason: string;
  readonly expires_at: string;
  readonly limits?: readonly LayerLimits[] | undefined;
}

export interface KeyState {
  readonly key: string;
  readonly counters: readonly CounterState[];
  readonly override: Override | null;
  /** The last denials in the memory of the key's object, newest first. */
  readonly denials?: readonly Denial[] | undefined;
  /** Earlier denials are unknown. Null: all are. */
  readonly denials_since?: string | null | undefined;
}

export interface Denial {
  readonly at: string;
  readonly policy: string;
  /** By layer: of the layers that count by the key. */
  readonly cost: number | Readonly<Record<string, number>>;
  /** The layers are in shadow: the request was not denied by them. */
  readonly shadow?: true | undefined;
  readonly limits: readonly (Pick<LimitState, "limit" | "window_seconds" | "concurrent" | "used"> & {
    readonly layer: string;
    /** The counter held as many events as it can. */
    readonly full?: true | undefined;
    readonly override?: OverrideKind | undefined;
  })[];
}

export interface ListedOverride {
  readonly key: string;
  readonly override: Override;
  /** The name of the token, null if the order was not recorded. */
  readonly ordered_by: string | null;
  readonly ordered_at: string | null;
}

export interface OverrideList {
  readonly overrides: readonly ListedOverride[];
  /** Keys whose object could not be reached. */
  readonly unknown: readonly string[];
  /** The next page begins after this key. */
  readonly next: string | null;
}

export type OrderKind = "set_override" | "lift_override" | "reset_key";

export interface Order {
  readonly id: number;
  readonly at: string;
  /** The name of the token. */
  readonly by: string;
  readonly order: OrderKind;
  readonly key: string;
  readonly override?: Override | undefined;
  /** False: it may have been carried out or not. */
  readonly done: boolean;
}

export interface Audit {
  /** Newest first. */
  readonly orders: readonly Order[];
  /** The next page has the orders before this id. */
  readonly next: number | null;
}

export type OverrideRequest = Pick<Override, "kind" | "reason" | "limits"> &
  ({ readonly expires_in_seconds: number } | { readonly expires_at: string });

export interface PolicyState {
  readonly name: string;
  readonly layers: readonly LayerState[];
}

export interface LayerState {
  readonly name: string;
  readonly by: readonly string[];
  readonly mode: "live" | "shadow";
  readonly limits: readonly Pick<LimitState, "limit" | "window_seconds" | "concurrent">[];
}

export interface PolicyList {
  readonly policies: readonly PolicyState[];
}

export const OUTCOMES = [
  "allowed",
  "replayed",
  "degraded",
  "shadow_denied",
  "denied",
  "denied_at_edge",
  "error",
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Count {
  readonly policy: string;
  /** Null for counts of decisions. A layer's name for counts of denials for which it was a reason. */
  readonly layer: string | null;
  readonly outcome: Outcome;
  readonly count: number;
}

export interface DeniedKey {
  readonly key: string;
  readonly policy: string;
  readonly layer: string;
  /** Too high by `error` at most. */
  readonly count: number;
  readonly error: number;
}

export interface Stats {
  /** Oldest first. Minutes without decisions are left out. */
  readonly minutes: readonly { readonly at: string; readonly counts: readonly Count[] }[];
  readonly denied_keys: readonly DeniedKey[];
  readonly error_at_most: number;
}

export interface ProblemBody {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}
