import type { Limit } from "./limit";
import type { EventLog } from "./sliding-window";
import type { Standing } from "./standing";

export const OVERRIDE_KINDS = ["limits", "exempt", "ban"] as const;
export type OverrideKind = (typeof OVERRIDE_KINDS)[number];

/** The limits of one of a key's counters. */
export interface LayerLimits {
  readonly policy: string;
  readonly layer: string;
  readonly limits: readonly Limit[];
  /**
   * What the counter kept when the override was set: the events from this instant on, which it goes on to keep for as long
   * as the override is in force. Left out where it kept none.
   */
  readonly keptFromMs?: number | undefined;
}

/** What was set for a key, of all counters or of some. Objects store it and send it as it is. */
export interface KeyOverride {
  readonly kind: OverrideKind;
  /** For whoever looks the key up. */
  readonly reason: string;
  /** The object's own time: the instant from which on it holds no longer. */
  readonly endsAtMs: number;
  /** The counters that have other limits, and those limits: of kind `limits` alone. */
  readonly layers?: readonly LayerLimits[];
}

/** What holds for a counter in place of its own limits, before `endsAtMs` and not from then on. */
export interface Override {
  readonly kind: OverrideKind;
  readonly endsAtMs: number;
  /** Those in force: of kind `limits`, and of no other. */
  readonly limits?: readonly Limit[] | undefined;
  /** Events from this instant on are kept while it is in force, whatever their retention. */
  readonly keptFromMs?: number | undefined;
}

/** What an override of a key is to one of its counters, if anything. */
export function overrideOf(override: KeyOverride, policy: string, layer: string): Override | undefined {
  const { kind, endsAtMs, layers } = override;
  if (kind !== "limits") return { kind, endsAtMs };
  const own = layers?.find((other) => other.policy === policy && other.layer === layer);
  return own && { kind, endsAtMs, limits: own.limits, keptFromMs: own.keptFromMs };
}

/** What a verdict says of a counter that is overridden. All waits are from the verdict on, if nobody consumes. */
export interface OverrideStanding {
  readonly kind: OverrideKind;
  /** Those in force, where they are not the counter's own. */
  readonly limits?: readonly Limit[] | undefined;
  readonly endsInMs: number;
  /** Until the cost fits all of the counter's own limits, which hold again once the override has ended. */
  readonly ownFitsInMs: number;
}

interface OverriddenLog {
  readonly log: EventLog;
  readonly limits: readonly Limit[];
  readonly override: Override;
}

/**
 * How the limits in force stand. What does not fit before the override ends fits when it has ended and the counter's
 * own limits admit it.
 */
export function overriddenStandings(counter: OverriddenLog, cost: number, nowMs: number): Standing[] {
  const { limits, override } = counter;
  const { endsInMs, ownFitsInMs } = overrideStandingOf(counter, cost, nowMs);
  return (override.limits ?? limits).map((limit) => {
    const standing = orNever(counter, limit, cost, nowMs);
    const waitMs = { limits: standing.fitsInMs, exempt: 0, ban: Number.POSITIVE_INFINITY }[override.kind];
    return { ...standing, fitsInMs: waitMs < endsInMs ? waitMs : Math.max(endsInMs, ownFitsInMs) };
  });
}

export function overrideStandingOf(counter: OverriddenLog, cost: number, nowMs: number): OverrideStanding {
  const { limits, override } = counter;
  return {
    kind: override.kind,
    ...(override.limits && { limits: override.limits }),
    endsInMs: override.endsAtMs - nowMs,
    ownFitsInMs: Math.max(...limits.map((limit) => orNever(counter, limit, cost, nowMs).fitsInMs)),
  };
}

/** A cost above a limit on costs never fits it. */
function orNever({ log, override }: OverriddenLog, limit: Limit, cost: number, nowMs: number): Standing {
  const standing = log.standing(limit, Math.min(cost, limit.max), nowMs, override.keptFromMs);
  const isTooMuch = limit.kind === undefined && cost > limit.max;
  return isTooMuch ? { ...standing, fitsInMs: Number.POSITIVE_INFINITY } : standing;
}
