import type { LimiterError } from "./errors.js";
import type { CheckRequest, Cost } from "./requests.js";

/** One limit of one layer, as it stands after the decision. */
export interface LimitState {
  readonly layer: string;
  /** The key that the layer counts by, such as `user:u_1`. */
  readonly key: string;
  /** The most in any window. */
  readonly limit: number;
  readonly windowSeconds: number;
  /** True: the limit counts decisions that were admitted in the window and not released. False: it adds up costs. */
  readonly concurrent: boolean;
  readonly used: number;
  readonly remaining: number;
  /** The wait until `remaining` equals `limit` if nobody consumes. */
  readonly resetSeconds: number;
  /** The layer is in shadow: it counts, and denies nothing. */
  readonly shadow: boolean;
  /** The kind of the override that replaces the policy's own limit, if there is one. */
  readonly override?: "limits" | "exempt" | "ban" | undefined;
}

/** The decision about a check or a consume. A denial is a value, not an error. */
export interface Decision {
  readonly allowed: boolean;
  /** Names an admitted consume, for `settle` and `release`. */
  readonly id: string | undefined;
  readonly policy: string;
  /** As it was sent. By layer, it has every layer of the policy; if degraded, what was sent. */
  readonly cost: Cost;
  /** The idempotency key was admitted before: nothing was charged this time. */
  readonly replayed: boolean;
  /** The counters could not be reached: `onError` of the client or of the service decided. */
  readonly degraded: boolean;
  /** The wait until this cost fits if nobody else consumes; null when allowed. */
  readonly retryAfterSeconds: number | null;
  /** The policy has layers in shadow, which count and deny nothing. */
  readonly shadow: boolean;
  /** The layers in shadow would have denied it. False if they could not be asked. */
  readonly wouldDeny: boolean;
  /** Every limit of every layer, in the policy's order. Empty if degraded. */
  readonly limits: readonly LimitState[];
  /**
   * `RateLimit`, `RateLimit-Policy` and `Retry-After`, as far as the reply has them. Pass them on to your own client.
   */
  readonly headers: Readonly<Record<string, string>>;
  /** The body of the reply. For a denied consume it is a problem of RFC 9457, with `status` and `title`. */
  readonly body: DecisionBody;
  /** The outage in which `onError` of the client decided: no answer, the token is refused, or the policy is unknown. */
  readonly error: LimiterError | undefined;
}

/** The corrected cost of an earlier consume, and every limit of its policy with that cost. */
export interface Settlement {
  readonly id: string;
  readonly policy: string;
  /** What was set. By layer, it has the layers that the settle names. */
  readonly cost: Cost;
  readonly limits: readonly LimitState[];
}

/** A released consume, and every limit of its policy after the release. */
export interface Release {
  readonly id: string;
  readonly policy: string;
  readonly limits: readonly LimitState[];
}

/** A limit on the wire. */
export interface LimitBody {
  readonly layer: string;
  readonly key: string;
  readonly limit: number;
  readonly window_seconds: number;
  readonly concurrent?: true | undefined;
  readonly used: number;
  readonly remaining: number;
  readonly reset_seconds: number;
  /** Present if the layer is in shadow. */
  readonly shadow?: true | undefined;
  /** The kind of the override that replaces the policy's own limit. */
  readonly override?: "limits" | "exempt" | "ban" | undefined;
}

/**
 * A decision on the wire. A denied consume is a problem, with the first five fields. An admitted consume has an `id`.
 */
export interface DecisionBody {
  readonly type?: string;
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  /** The limits that the cost does not fit, as the headers name them. */
  readonly "violated-policies"?: readonly string[];
  readonly allowed: boolean;
  readonly id?: string | undefined;
  readonly policy: string;
  readonly cost: Cost;
  readonly replayed: boolean;
  readonly degraded: boolean;
  readonly retry_after_seconds: number | null;
  /** Present, with `would_deny`, if the policy has layers in shadow. */
  readonly shadow?: true | undefined;
  readonly would_deny?: boolean | undefined;
  readonly limits: readonly LimitBody[];
}

/** A settlement on the wire. */
export interface SettlementBody {
  readonly id: string;
  readonly policy: string;
  readonly cost: Cost;
  readonly limits: readonly LimitBody[];
}

/** A release on the wire. */
export interface ReleaseBody {
  readonly id: string;
  readonly policy: string;
  readonly released: true;
  readonly limits: readonly LimitBody[];
}

/** Makes a decision from a body and the headers to pass on. */
export function decisionOf(body: DecisionBody, headers: Record<string, string>, error?: LimiterError): Decision {
  const { allowed, id, policy, cost, replayed, degraded, retry_after_seconds: retryAfterSeconds } = body;
  const { shadow = false, would_deny: wouldDeny = false } = body;
  const limits = body.limits.map(limitOf);
  return {
    allowed,
    id,
    policy,
    cost,
    replayed,
    degraded,
    retryAfterSeconds,
    shadow,
    wouldDeny,
    limits,
    headers,
    body,
    error,
  };
}

/** The decision in an outage, by `onError`. */
export function outageDecision(
  onError: "deny" | "allow",
  { policy, cost = 1 }: Pick<CheckRequest, "policy" | "cost">,
  id: string | undefined,
  error: LimiterError,
): Decision {
  const common = { policy, cost, replayed: false, degraded: true, limits: [] };
  if (onError === "allow")
    return decisionOf({ allowed: true, ...(id && { id }), ...common, retry_after_seconds: null }, {}, error);
  const problem = {
    type: "about:blank",
    title: "Service Unavailable",
    status: 503,
    detail: "The limiter could not be asked.",
  };
  const denial: DecisionBody = { ...problem, allowed: false, ...common, retry_after_seconds: 1 };
  return decisionOf(denial, { "Retry-After": "1" }, error);
}

export function settlementOf({ id, policy, cost, limits }: SettlementBody): Settlement {
  return { id, policy, cost, limits: limits.map(limitOf) };
}

export function releaseOf({ id, policy, limits }: ReleaseBody): Release {
  return { id, policy, limits: limits.map(limitOf) };
}

function limitOf(body: LimitBody): LimitState {
  const { layer, key, limit, window_seconds: windowSeconds, reset_seconds: resetSeconds } = body;
  const { concurrent = false, used, remaining, shadow = false, override } = body;
  const state = { layer, key, limit, windowSeconds, concurrent, used, remaining, resetSeconds, shadow };
  return override === undefined ? state : { ...state, override };
}

/** Whether a ban denied this, which has no wait: it may be lifted or renewed. A ban denies nothing in a layer at 0. */
export function isBan({ allowed, cost, limits }: Decision): boolean {
  const isAtZero = (layer: string) => typeof cost === "object" && cost[layer] === 0;
  return !allowed && limits.some(({ layer, override, shadow }) => override === "ban" && !shadow && !isAtZero(layer));
}

/** Whether a body is a decision: the reply of a proxy must not pass for an admission. */
export function isDecision(body: unknown): body is DecisionBody {
  const { allowed, id, policy, cost, replayed, degraded, retry_after_seconds, limits } = fieldsOf(body);
  const { shadow, would_deny } = fieldsOf(body);
  return (
    typeof allowed === "boolean" &&
    (id === undefined || typeof id === "string") &&
    typeof policy === "string" &&
    isCost(cost) &&
    typeof replayed === "boolean" &&
    typeof degraded === "boolean" &&
    isFlag(shadow) &&
    isFlag(would_deny) &&
    (allowed ? retry_after_seconds === null : Number.isInteger(retry_after_seconds)) &&
    areLimits(limits) &&
    // No limits: degraded, or all layers are in shadow and unreachable.
    (limits.length > 0 || degraded || shadow === true)
  );
}

export function isSettlement(body: unknown): body is SettlementBody {
  const { id, policy, cost, limits } = fieldsOf(body);
  return typeof id === "string" && typeof policy === "string" && isCost(cost) && areLimits(limits);
}

export function isRelease(body: unknown): body is ReleaseBody {
  const { id, policy, released, limits } = fieldsOf(body);
  return typeof id === "string" && typeof policy === "string" && released === true && areLimits(limits);
}

function isCost(cost: unknown): cost is Cost {
  if (typeof cost !== "object" || cost === null) return typeof cost === "number";
  return Object.values(cost).every((ofLayer) => typeof ofLayer === "number");
}

function areLimits(limits: unknown): limits is LimitBody[] {
  return Array.isArray(limits) && limits.every(isLimit);
}

function isLimit(body: unknown): body is LimitBody {
  const { layer, key, limit, window_seconds, concurrent, used, remaining, reset_seconds, shadow, override } =
    fieldsOf(body);
  return (
    typeof layer === "string" &&
    typeof key === "string" &&
    [limit, window_seconds, used, remaining, reset_seconds].every(Number.isInteger) &&
    (concurrent === undefined || concurrent === true) &&
    isFlag(shadow) &&
    // A later version of the service may have other kinds.
    (override === undefined || typeof override === "string")
  );
}

/** A flag may be left out if it is false. */
function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === "boolean";
}

/** The fields of an object; no fields for any other value. */
export function fieldsOf(body: unknown): Record<string, unknown> {
  return Object(body);
}
