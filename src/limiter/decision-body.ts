import type { Limit } from "../core/limit";
import type { OverrideKind } from "../core/override";
import { remaining, type Standing } from "../core/standing";
import type { DecisionBody, InlineDecisionBody, ReleaseBody, SettlementBody } from "../request/schema";
import { type ChangeDecision, ceilSeconds, type Decision, retryAfterSeconds } from "./decision";

export function bodyOf(decision: Decision): DecisionBody {
  const { allowed, id, policy, cost, replayed, degraded, wouldDeny } = decision;
  return {
    allowed,
    ...(id === undefined ? {} : { id }),
    policy: policy.name,
    cost,
    replayed,
    degraded,
    retry_after_seconds: retryAfterSeconds(decision),
    ...(wouldDeny === undefined ? {} : { shadow: true as const, would_deny: wouldDeny }),
    limits: limitBodiesOf(decision),
  };
}

export function inlineBodyOf(decision: Decision): InlineDecisionBody {
  const body = bodyOf(decision);
  const limits = body.limits.map((limit, i) => ({
    ...limit,
    frees_in_ms: decision.limits[i]?.standing.freesInMs ?? 0,
  }));
  return { ...body, limits };
}

export function settlementBodyOf(settled: ChangeDecision): SettlementBody {
  return { id: settled.id, policy: settled.policy.name, cost: settled.cost, limits: limitBodiesOf(settled) };
}

export function releaseBodyOf(released: ChangeDecision): ReleaseBody {
  return { id: released.id, policy: released.policy.name, released: true, limits: limitBodiesOf(released) };
}

function limitBodiesOf({ limits }: Pick<Decision, "limits">): DecisionBody["limits"] {
  return limits.map(({ layer, key, limit, standing, isShadow, override }) => ({
    layer,
    key,
    ...limitState(limit, standing, override?.kind),
    ...(isShadow && { shadow: true as const }),
  }));
}

/** A limit as it stands, in the words and units of the wire. */
export function limitState(limit: Limit, { used, resetsInMs }: Standing, override?: OverrideKind) {
  return {
    ...limitBody(limit),
    used,
    remaining: remaining(limit.max, used),
    reset_seconds: ceilSeconds(resetsInMs),
    ...(override && { override }),
  };
}

/** A limit in the words and units of the wire. */
export function limitBody({ kind, max, windowMs }: Limit) {
  return { limit: max, window_seconds: windowMs / 1_000, ...(kind && { concurrent: true as const }) };
}
