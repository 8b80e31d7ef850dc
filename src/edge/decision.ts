import type { Limit } from "../core/limit";
import type { Standing } from "../core/log";
import type { Policy } from "../core/policy";
import type { Answer } from "../object/protocol";
import type { Asked } from "./request";
import type { Decision } from "./schema";

/** A decision with everything that its body and its headers are made from. */
export interface Decided {
  readonly allowed: boolean;
  /** Of an admitted consume. */
  readonly id: string | undefined;
  readonly policy: Policy;
  readonly cost: number;
  readonly limits: readonly DecidedLimit[];
}

export interface DecidedLimit {
  readonly layer: string;
  readonly key: string;
  readonly limit: Limit;
  readonly standing: Standing;
}

export function decided({ policy, cost, counters }: Asked, answer: Answer, id?: string): Decided {
  const limits = counters.flatMap(({ layer, key, limits }, c) =>
    limits.map((limit, l) => ({ layer, key, limit, standing: answer.standings[c]?.[l] as Standing })),
  );
  return { allowed: answer.allowed, id: answer.allowed ? id : undefined, policy, cost, limits };
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
  return {
    allowed: decided.allowed,
    ...(decided.id === undefined ? {} : { id: decided.id }),
    policy: decided.policy.name,
    cost: decided.cost,
    replayed: false,
    degraded: false,
    retry_after_seconds: retryAfterSeconds(decided),
    limits: decided.limits.map(({ layer, key, limit, standing }) => ({ layer, key, ...limitState(limit, standing) })),
  };
}

/** A limit as it stands, in the words and units of the wire. */
export function limitState({ max, windowMs }: Limit, { used, resetsInMs }: Standing) {
  return {
    limit: max,
    window_seconds: windowMs / 1_000,
    used,
    remaining: remaining(max, used),
    reset_seconds: ceilSeconds(resetsInMs),
  };
}

/** More can be in use than the limit allows once the limit was lowered. */
export function remaining(max: number, used: number): number {
  return Math.max(0, max - used);
}

export function ceilSeconds(ms: number): number {
  return Math.ceil(ms / 1_000);
}
