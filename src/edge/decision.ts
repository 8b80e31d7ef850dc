import type { Limit } from "../core/limit";
import type { Standing } from "../core/log";
import type { Policy } from "../core/policy";
import type { Answer } from "../object/protocol";
import type { Asked } from "./request";
import type { Decision, InlineDecision, Release, Settlement } from "./schema";

/** A decision with everything that its body and its headers are made from. */
export interface Decided {
  readonly allowed: boolean;
  /** Of a consume that was admitted, or settled. */
  readonly id: string | undefined;
  readonly policy: Policy;
  readonly cost: number;
  readonly replayed: boolean;
  /** Admitted because the counters could not be reached, and recorded nowhere. */
  readonly degraded: boolean;
  /** Denied as an object had denied it a moment ago: none was asked again. */
  readonly isRemembered: boolean;
  readonly limits: readonly DecidedLimit[];
}

export interface DecidedLimit {
  readonly layer: string;
  readonly key: string;
  readonly limit: Limit;
  readonly standing: Standing;
}

/** An answer of the objects, or what is remembered of one. */
export type GivenAnswer = Answer & { readonly isRemembered?: boolean };

export function decided(
  { policy, cost, counters }: Asked,
  answer: GivenAnswer,
  id?: string,
  replayed = false,
): Decided {
  const limits = counters.flatMap(({ layer, key, limits }, c) =>
    limits.flatMap((limit, l) => {
      const standing = answer.standings[c]?.[l];
      return standing ? [{ layer, key, limit, standing }] : [];
    }),
  );
  const { allowed, isRemembered = false } = answer;
  return {
    allowed,
    id: allowed ? id : undefined,
    policy,
    cost,
    replayed: allowed && replayed,
    degraded: false,
    isRemembered,
    limits,
  };
}

/** The one admission that is not recorded, chosen by whoever runs the service. */
export function degraded({ policy, cost }: Asked, id?: string): Decided {
  return { allowed: true, id, policy, cost, replayed: false, degraded: true, isRemembered: false, limits: [] };
}

/** Null when allowed. At least 1: what was denied fits in a millisecond at the soonest, and that is rounded up. */
export function retryAfterSeconds({ allowed, limits }: Decided): number | null {
  return allowed ? null : Math.max(...limits.map(({ standing }) => ceilSeconds(standing.fitsInMs)));
}

/** The limits that the cost does not fit. */
export function violated({ allowed, limits }: Decided): DecidedLimit[] {
  return allowed ? [] : limits.filter(({ standing }) => standing.fitsInMs > 0);
}

export function bodyOf(decided: Decided): Decision {
  const { allowed, id, policy, cost, replayed, degraded } = decided;
  return {
    allowed,
    ...(id === undefined ? {} : { id }),
    policy: policy.name,
    cost,
    replayed,
    degraded,
    retry_after_seconds: retryAfterSeconds(decided),
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

export function settlementOf(decided: Decided): Settlement {
  return { id: decided.id ?? "", policy: decided.policy.name, cost: decided.cost, limits: limitsOf(decided) };
}

export function releaseOf(decided: Decided): Release {
  return { id: decided.id ?? "", policy: decided.policy.name, released: true, limits: limitsOf(decided) };
}

function limitsOf({ limits }: Decided): Decision["limits"] {
  return limits.map(({ layer, key, limit, standing }) => ({ layer, key, ...limitState(limit, standing) }));
}

/** A limit as it stands, in the words and units of the wire. */
export function limitState(limit: Limit, { used, resetsInMs }: Standing) {
  return {
    ...limitBody(limit),
    used,
    remaining: remaining(limit.max, used),
    reset_seconds: ceilSeconds(resetsInMs),
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
