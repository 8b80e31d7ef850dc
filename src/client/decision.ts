import type { LimiterError } from "./errors.js";
import type { CheckRequest } from "./requests.js";

/** One limit of one layer, as it stands after the decision. */
export interface LimitState {
  readonly layer: string;
  /** What the layer counts by, such as `user:u_1`. */
  readonly key: string;
  /** The most in any window. */
  readonly limit: number;
  readonly windowSeconds: number;
  /** It counts decisions that were admitted in the window and not released, in place of their cost. */
  readonly concurrent: boolean;
  readonly used: number;
  readonly remaining: number;
  /** The wait until all of the limit remains if nobody consumes. */
  readonly resetSeconds: number;
  /** Of a layer in shadow: it counts, and denies nothing. */
  readonly shadow: boolean;
  /** What is in force for the key in place of the policy's own limit, if anything. */
  readonly override?: "limits" | "exempt" | "ban" | undefined;
}

/** May it be done now? A denial is a decision like any other. */
export interface Decision {
  readonly allowed: boolean;
  /** Names an admitted consume, for `settle` and `release`. */
  readonly id: string | undefined;
  readonly policy: string;
  readonly cost: number;
  /** The same idempotency key was admitted before: nothing was charged this time. */
  readonly replayed: boolean;
  /** Not decided by the counters, which could not be reached, but by `onError` here or in the service. */
  readonly degraded: boolean;
  /** The wait until this cost fits if nobody else consumes; null when allowed. */
  readonly retryAfterSeconds: number | null;
  /** The policy has layers in shadow, which count and deny nothing. */
  readonly shadow: boolean;
  /** Those layers would have denied it; false when they could not be asked. */
  readonly wouldDeny: boolean;
  /** Every limit of every layer, in the policy's order; none when degraded. */
  readonly limits: readonly LimitState[];
  /** `RateLimit`, `RateLimit-Policy` and `Retry-After`, those that were answered: to hand on to one's own client. */
  readonly headers: Readonly<Record<string, string>>;
  /** As answered: with `status` and `title`, a problem of RFC 9457, when a consume was denied. */
  readonly body: DecisionBody;
  /** The outage in which `onError` decided here: nobody answers, the token is refused, or the policy is not known. */
  readonly error: LimiterError | undefined;
}

/** The corrected cost of an earlier consume, and every limit of its policy after it. */
export interface Settlement {
  readonly id: string;
  readonly policy: string;
  readonly cost: number;
  readonly limits: readonly LimitState[];
}

/** An earlier consume that is over, and every limit of its policy without it among what is under way. */
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
  /** There when it is of a layer in shadow. */
  readonly shadow?: true | undefined;
  /** What is in force for the key in place of the policy's own limit. */
  readonly override?: "limits" | "exempt" | "ban" | undefined;
}

/** A decision on the wire. What is optional stands in the problem that a denied consume is; `id` in an admitted one. */
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
  readonly cost: number;
  readonly replayed: boolean;
  readonly degraded: boolean;
  readonly retry_after_seconds: number | null;
  /** There, with `would_deny`, when the policy has layers in shadow. */
  readonly shadow?: true | undefined;
  readonly would_deny?: boolean | undefined;
  readonly limits: readonly LimitBody[];
}

/** A settlement on the wire. */
export interface SettlementBody {
  readonly id: string;
  readonly policy: string;
  readonly cost: number;
  readonly limits: readonly LimitBody[];
}

/** A release on the wire. */
export interface ReleaseBody {
  readonly id: string;
  readonly policy: string;
  readonly released: true;
  readonly limits: readonly LimitBody[];
}

/** A decision from its body and the headers to hand on. */
export function decisionOf(body: DecisionBody, headers: Record<string, string>, error?: LimiterError): Decision {
  const { allowed, id, policy, cost, replayed, degraded, retry_after_seconds: retryAfterSeconds } = body;
  const { shadow = false, would_deny: wouldDeny = false } = body;
  const told = { allowed, id, policy, cost, replayed, degraded, retryAfterSeconds, shadow, wouldDeny };
  return { ...told, limits: body.limits.map(limitOf), headers, body, error };
}

/** What stands in for a decision in an outage. */
export function outageDecision(
  onError: "deny" | "allow",
  { policy, cost = 1 }: Pick<CheckRequest, "policy" | "cost">,
  id: string | undefined,
  error: LimiterError,
): Decision {
  const same = { policy, cost, replayed: false, degraded: true, limits: [] };
  if (onError === "allow")
    return decisionOf({ allowed: true, ...(id && { id }), ...same, retry_after_seconds: null }, {}, error);
  const problem = {
    type: "about:blank",
    title: "Service Unavailable",
    status: 503,
    detail: "The limiter could not be asked.",
  };
  const denial: DecisionBody = { ...problem, allowed: false, ...same, retry_after_seconds: 1 };
  return decisionOf(denial, { "Retry-After": "1" }, error);
}

export function settlementOf({ id, policy, cost, limits }: SettlementBody): Settlement {
  return { id, policy, cost, limits: limits.map(limitOf) };
}

export function releaseOf({ id, policy, limits }: ReleaseBody): Release {
  return { id, policy, limits: limits.map(limitOf) };
}

function limitOf({ window_seconds, reset_seconds, ...same }: LimitBody): LimitState {
  const { layer, key, limit, concurrent = false, used, remaining, shadow = false, override } = same;
  const standing = { windowSeconds: window_seconds, concurrent, used, remaining, resetSeconds: reset_seconds };
  return { layer, key, limit, ...standing, shadow, ...(override !== undefined && { override }) };
}

/** Whether this is a decision: what a proxy answers in the service's place must not pass for an admission. */
export function isDecision(body: unknown): body is DecisionBody {
  const { allowed, id, policy, cost, replayed, degraded, retry_after_seconds, limits } = fieldsOf(body);
  const { shadow, would_deny } = fieldsOf(body);
  return (
    typeof allowed === "boolean" &&
    (id === undefined || typeof id === "string") &&
    typeof policy === "string" &&
    typeof cost === "number" &&
    typeof replayed === "boolean" &&
    typeof degraded === "boolean" &&
    isFlag(shadow) &&
    isFlag(would_deny) &&
    (allowed ? retry_after_seconds === null : typeof retry_after_seconds === "number") &&
    areLimits(limits) &&
    // A policy may be in shadow as a whole, and its shadow out of reach.
    (limits.length > 0 || degraded || shadow === true)
  );
}

export function isSettlement(body: unknown): body is SettlementBody {
  const { id, policy, cost, limits } = fieldsOf(body);
  return typeof id === "string" && typeof policy === "string" && typeof cost === "number" && areLimits(limits);
}

export function isRelease(body: unknown): body is ReleaseBody {
  const { id, policy, released, limits } = fieldsOf(body);
  return typeof id === "string" && typeof policy === "string" && released === true && areLimits(limits);
}

function areLimits(limits: unknown): limits is LimitBody[] {
  return Array.isArray(limits) && limits.every(isLimit);
}

function isLimit(body: unknown): body is LimitBody {
  const { layer, key, limit, window_seconds, concurrent, used, remaining, reset_seconds, shadow } = fieldsOf(body);
  if (concurrent !== undefined && concurrent !== true) return false;
  const numbers = [limit, window_seconds, used, remaining, reset_seconds];
  const texts = [layer, key];
  return (
    texts.every((text) => typeof text === "string") && numbers.every((n) => typeof n === "number") && isFlag(shadow)
  );
}

/** What is not true of most answers is left out of them. */
function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === "boolean";
}

/** Its fields if it is an object, else none. */
export function fieldsOf(body: unknown): Record<string, unknown> {
  return Object(body);
}
