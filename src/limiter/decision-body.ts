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

type LimitBody = DecisionBody["limits"][number];

function limitBodiesOf({ limits }: Pick<Decision, "limits">): LimitBody[] {
  return limits.map(({ layer, key, limit, standing, isShadow, override }) => {
    const { used, resetsInMs } = standing;
    // One literal and no spread: this is made for every limit of every decision.
    const body: LimitBody = {
      layer,
      key,
      limit: limit.max,
      window_seconds: limit.windowMs / 1_000,
      used,
      remaining: remaining(limit.max, used),
      reset_seconds: ceilSeconds(resetsInMs),
    };
    if (limit.kind) body.concurrent = true;
    if (override) body.override = override.kind;
    if (isShadow) body.shadow = true;
    return body;
  });
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
