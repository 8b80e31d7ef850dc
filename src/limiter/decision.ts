import type { Cost } from "../core/cost";
import type { Limit } from "../core/limit";
import type { OverrideStanding } from "../core/override";
import type { Policy } from "../core/policy";
import type { Standing } from "../core/standing";
import type { Counter, ObjectVerdict } from "../object/protocol";
import type { ConsumeVerdict } from "../objects/asker";
import type { ValidChange, ValidRequest } from "../request/read";
import type { ShadowVerdict } from "./shadow";

/** What the caller of a check or a consume is told. The body and the headers of the reply are made from it. */
export interface Decision {
  readonly allowed: boolean;
  /** Present for a consume that was admitted. */
  readonly id: string | undefined;
  readonly policy: Policy;
  readonly cost: Cost;
  readonly replayed: boolean;
  /** Admitted because the counters could not be reached, and recorded nowhere. */
  readonly degraded: boolean;
  /** The denial cache answered: no object was asked. */
  readonly isCached: boolean;
  /** Whether the layers in shadow would have denied. Undefined if there are none. */
  readonly wouldDeny: boolean | undefined;
  /** The layers in shadow that never admit a cost as high as this one. */
  readonly neverFitsInShadow: readonly string[];
  readonly limits: readonly DecisionLimit[];
}

/** What the caller of a settle or a release is told. */
export interface ChangeDecision {
  readonly id: string;
  readonly policy: Policy;
  /** The cost that a settle has set. */
  readonly cost: Cost;
  readonly limits: readonly DecisionLimit[];
}

export interface DecisionLimit {
  readonly layer: string;
  readonly key: string;
  readonly limit: Limit;
  readonly standing: Standing;
  readonly isShadow: boolean;
  /** The override of the key's limits in this layer. */
  readonly override?: OverrideStanding | undefined;
}

/** The id of a consume, and whether it was admitted before. */
interface ConsumeId {
  readonly id: string;
  readonly replayed: boolean;
}

export function decisionOf(
  request: ValidRequest,
  verdict: ObjectVerdict & Pick<ConsumeVerdict, "isCached">,
  consume?: ConsumeId,
  shadow?: ShadowVerdict,
): Decision {
  const { allowed, isCached = false } = verdict;
  return {
    allowed,
    id: allowed ? consume?.id : undefined,
    policy: request.policy,
    cost: request.cost,
    replayed: allowed && consume?.replayed === true,
    degraded: false,
    isCached,
    wouldDeny: shadow?.wouldDeny,
    neverFitsInShadow: shadow?.neverFits ?? [],
    limits: allLimits(request, verdict, shadow),
  };
}

export function changeDecisionOf(
  request: ValidChange,
  verdict: ObjectVerdict,
  shadow: ShadowVerdict | undefined,
): ChangeDecision {
  const { id, policy, cost } = request;
  return { id, policy, cost, limits: allLimits(request, verdict, shadow) };
}

/** The decision while the counters can't be reached and `RATE_LIMIT_ON_ERROR` is `allow`: admitted, and not recorded. */
export function degradedDecision({ policy, cost }: ValidRequest, id?: string): Decision {
  return {
    allowed: true,
    id,
    policy,
    cost,
    replayed: false,
    degraded: true,
    isCached: false,
    wouldDeny: undefined,
    neverFitsInShadow: [],
    limits: [],
  };
}

function allLimits(request: ValidRequest, verdict: ObjectVerdict, shadow: ShadowVerdict | undefined): DecisionLimit[] {
  const live = decisionLimits(request.counters, verdict, false);
  if (!shadow) return live;
  return inPolicyOrder(request.policy, [...live, ...decisionLimits(request.shadow, shadow, true)]);
}

function decisionLimits(
  counters: readonly Counter[],
  { standings, overrides }: Pick<ObjectVerdict, "standings" | "overrides">,
  isShadow: boolean,
): DecisionLimit[] {
  const decided: DecisionLimit[] = [];
  for (const [c, { layer, key, limits }] of counters.entries()) {
    const override = overrides?.[c] ?? undefined;
    for (const [l, limit] of (override?.limits ?? limits).entries()) {
      const standing = standings[c]?.[l];
      if (standing) decided.push({ layer, key, limit, standing, isShadow, override });
    }
  }
  return decided;
}

function inPolicyOrder({ layers }: Policy, limits: readonly DecisionLimit[]): DecisionLimit[] {
  return layers.flatMap(({ name }) => limits.filter(({ layer }) => layer === name));
}

/** The limits that decide: those of live layers. */
export function liveLimits({ limits }: Pick<Decision, "limits">): readonly DecisionLimit[] {
  return limits.filter(({ isShadow }) => !isShadow);
}

/** The first whole second at which the cost fits all live limits; null if allowed. At least 1, since waits are rounded up. */
export function retryAfterSeconds(decision: Decision): number | null {
  if (decision.allowed) return null;
  const limits = liveLimits(decision);
  // When the first answer was lost and the question asked again, there may be room by now.
  let seconds = limits.some(({ standing }) => standing.fitsInMs > 0) ? 0 : 1;
  // Each limit moves the wait at most twice: until it fits, and until it fits again after its override has ended.
  for (let moves = 0; moves <= 2 * limits.length; moves++) {
    const fits = Math.max(seconds, ...limits.map((limit) => ceilSeconds(fitsFromMs(limit, seconds * 1_000))));
    if (fits === seconds) break;
    seconds = fits;
  }
  return seconds;
}

/** The first instant, from `inMs` on, at which the cost fits. It may fit no longer once an override has ended. */
function fitsFromMs({ standing, override }: DecisionLimit, inMs: number): number {
  if (inMs < standing.fitsInMs || !override || inMs < override.endsInMs) return Math.max(inMs, standing.fitsInMs);
  return Math.max(inMs, override.ownFitsInMs);
}

/** The limits that the cost does not fit. */
export function violatedLimits(decision: Decision): DecisionLimit[] {
  return decision.allowed ? [] : liveLimits(decision).filter(({ standing }) => standing.fitsInMs > 0);
}

/** The layers that the cost does not fit, each with its key. */
export function reasonsOf(decision: Decision): ReadonlyMap<string, string> {
  return new Map(violatedLimits(decision).map(({ layer, key }) => [layer, key]));
}

/** The layers in shadow that would deny the request. */
export function shadowReasonsOf({ wouldDeny, neverFitsInShadow, limits }: Decision): ReadonlySet<string> {
  if (!wouldDeny) return new Set();
  const full = limits.filter(({ isShadow, standing }) => isShadow && standing.fitsInMs > 0);
  return new Set([...neverFitsInShadow, ...full.map(({ layer }) => layer)]);
}

export function ceilSeconds(ms: number): number {
  return Math.ceil(ms / 1_000);
}
