import type { Limit } from "../core/limit";
import type { Standing } from "../core/log";
import type { Overridden, OverrideKind } from "../core/override";
import type { Policy } from "../core/policy";
import type { Answer, AskedCounter } from "../object/protocol";
import type { Asked, AskedById } from "./request";
import type { Decision, InlineDecision, Release, Settlement } from "./schema";
import type { ShadowAnswer } from "./shadow";

/** A decision with everything that its body and its headers are made from. */
export interface Decided {
  readonly allowed: boolean;
  /** Of a consume that was admitted. */
  readonly id: string | undefined;
  readonly policy: Policy;
  readonly cost: number;
  readonly replayed: boolean;
  /** Admitted because the counters could not be reached, and recorded nowhere. */
  readonly degraded: boolean;
  /** Denied as an object had denied it a moment ago: none was asked again. */
  readonly isRemembered: boolean;
  /** Whether the layers in shadow would have denied it; undefined when there are none. */
  readonly wouldDeny: boolean | undefined;
  /** The layers in shadow that never admit a cost as high as this one. */
  readonly neverFitsInShadow: readonly string[];
  readonly limits: readonly DecidedLimit[];
}

/** An earlier consume that was settled or released, likewise. */
export interface Changed {
  readonly id: string;
  readonly policy: Policy;
  /** What it was settled at. */
  readonly cost: number;
  readonly limits: readonly DecidedLimit[];
}

export interface DecidedLimit {
  readonly layer: string;
  readonly key: string;
  readonly limit: Limit;
  readonly standing: Standing;
  readonly isShadow: boolean;
  /** What overrides the key's limits in this layer. */
  readonly override?: Overridden | undefined;
}

/** An answer of the objects, or what is remembered of one. */
export type GivenAnswer = Answer & { readonly isRemembered?: boolean };

/** How an admitted decision is named, and whether that name was known. */
interface Named {
  readonly id: string;
  readonly replayed: boolean;
}

export function decided(asked: Asked, answer: GivenAnswer, named?: Named, inShadow?: ShadowAnswer): Decided {
  const { allowed, isRemembered = false } = answer;
  return {
    allowed,
    id: allowed ? named?.id : undefined,
    policy: asked.policy,
    cost: asked.cost,
    replayed: allowed && named?.replayed === true,
    degraded: false,
    isRemembered,
    wouldDeny: inShadow?.wouldDeny,
    neverFitsInShadow: inShadow?.neverFits ?? [],
    limits: allLimits(asked, answer, inShadow),
  };
}

export function changed(asked: AskedById, answer: Answer, inShadow?: ShadowAnswer): Changed {
  const { id, policy, cost } = asked;
  return { id, policy, cost, limits: allLimits(asked, answer, inShadow) };
}

function allLimits({ policy, counters, shadow }: Asked, answer: Answer, inShadow?: ShadowAnswer): DecidedLimit[] {
  const live = limitsAsTold(counters, answer, false);
  return inShadow ? inOrder(policy, [...live, ...limitsAsTold(shadow, inShadow, true)]) : live;
}

function limitsAsTold(
  counters: readonly AskedCounter[],
  { standings, overrides }: Pick<Answer, "standings" | "overrides">,
  isShadow: boolean,
): DecidedLimit[] {
  return counters.flatMap(({ layer, key, limits }, c) => {
    const override = overrides?.[c] ?? undefined;
    return (override?.limits ?? limits).flatMap((limit, l) => {
      const standing = standings[c]?.[l];
      return standing ? [{ layer, key, limit, standing, isShadow, override }] : [];
    });
  });
}

function inOrder({ layers }: Policy, limits: readonly DecidedLimit[]): DecidedLimit[] {
  return layers.flatMap(({ name }) => limits.filter(({ layer }) => layer === name));
}

/** The one admission that is not recorded, chosen by whoever runs the service. */
export function degraded({ policy, cost }: Asked, id?: string): Decided {
  const unrecorded = {
    replayed: false,
    degraded: true,
    isRemembered: false,
    wouldDeny: undefined,
    neverFitsInShadow: [],
  };
  return { allowed: true, id, policy, cost, ...unrecorded, limits: [] };
}

/** The limits that decide. */
export function liveLimits({ limits }: Pick<Decided, "limits">): readonly DecidedLimit[] {
  return limits.filter(({ isShadow }) => !isShadow);
}

/**
 * The first whole second at which the cost fits all live limits; null when allowed. At least 1: what was denied fits in a
 * millisecond at the soonest, and that is rounded up.
 */
export function retryAfterSeconds(decided: Decided): number | null {
  if (decided.allowed) return null;
  const limits = liveLimits(decided);
  // An answer that was lost and asked for again may find that there is room by now.
  for (let seconds = limits.some(({ standing }) => standing.fitsInMs > 0) ? 0 : 1; ; ) {
    const fits = Math.max(seconds, ...limits.map((limit) => ceilSeconds(fitsFromMs(limit, seconds * 1_000))));
    if (fits === seconds) return seconds;
    seconds = fits;
  }
}

/** The first instant, not before `inMs`, at which the cost fits: when an override ends it may fit no longer. */
function fitsFromMs({ standing, override }: DecidedLimit, inMs: number): number {
  if (inMs < standing.fitsInMs || !override || inMs < override.endsInMs) return Math.max(inMs, standing.fitsInMs);
  return Math.max(inMs, override.ownFitsInMs);
}

/** The limits that the cost does not fit. */
export function violated(decided: Decided): DecidedLimit[] {
  return decided.allowed ? [] : liveLimits(decided).filter(({ standing }) => standing.fitsInMs > 0);
}

/** The layers that the cost does not fit, each with its key. */
export function reasonsOf(decided: Decided): ReadonlyMap<string, string> {
  return new Map(violated(decided).map(({ layer, key }) => [layer, key]));
}

/** The layers in shadow that would deny it. */
export function shadowReasonsOf({ wouldDeny, neverFitsInShadow, limits }: Decided): ReadonlySet<string> {
  if (!wouldDeny) return new Set();
  const full = limits.filter(({ isShadow, standing }) => isShadow && standing.fitsInMs > 0);
  return new Set([...neverFitsInShadow, ...full.map(({ layer }) => layer)]);
}

export function bodyOf(decided: Decided): Decision {
  const { allowed, id, policy, cost, replayed, degraded, wouldDeny } = decided;
  return {
    allowed,
    ...(id === undefined ? {} : { id }),
    policy: policy.name,
    cost,
    replayed,
    degraded,
    retry_after_seconds: retryAfterSeconds(decided),
    ...(wouldDeny === undefined ? {} : { shadow: true as const, would_deny: wouldDeny }),
    limits: limitsOf(decided),
  };
}

export function inlineBodyOf(decided: Decided): InlineDecision {
  const body = bodyOf(decided);
  const limits = body.limits.map((limit, i) => ({
    ...limit,
    frees_in_ms: decided.limits[i]?.standing.freesInMs ?? 0,
  }));
  return { ...body, limits };
}

export function settlementOf(settled: Changed): Settlement {
  return { id: settled.id, policy: settled.policy.name, cost: settled.cost, limits: limitsOf(settled) };
}

export function releaseOf(released: Changed): Release {
  return { id: released.id, policy: released.policy.name, released: true, limits: limitsOf(released) };
}

function limitsOf({ limits }: Pick<Decided, "limits">): Decision["limits"] {
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

/** More can be in use than the limit allows once the limit was lowered. */
export function remaining(max: number, used: number): number {
  return Math.max(0, max - used);
}

export function ceilSeconds(ms: number): number {
  return Math.ceil(ms / 1_000);
}
