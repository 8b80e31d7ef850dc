import type { Limit } from "./limit";
import type { EventLog } from "./sliding-window";
import type { Standing } from "./standing";

export const OVERRIDE_KINDS = ["limits", "exempt", "ban"] as const;
export type OverrideKind = (typeof OVERRIDE_KINDS)[number];

/** The limits of a counter, whose key is known. */
export interface LayerLimits {
  readonly policy: string;
  readonly layer: string;
  readonly limits: readonly Limit[];
  /**
   * The counter kept events from this instant on when the override was set. It keeps them while the override is in force.
   * Left out if it kept none.
   */
  readonly keptFromMs?: number | undefined;
}

/** The override of a key. It holds for all of the key's counters, or for some. Objects store it and send it as it is. */
export interface KeyOverride {
  readonly kind: OverrideKind;
  /** For people who look the key up. */
  readonly reason: string;
  /** The instant from which it does not hold any more, by the object's clock. */
  readonly endsAtMs: number;
  /** The counters that have other limits, with those limits. Only of kind `limits`. */
  readonly layers?: readonly LayerLimits[];
  /** The order that set it, if it was recorded: the name of its token, and when it was recorded. For people. */
  readonly order?: { readonly by: string; readonly atMs: number };
}

/** An override, as one counter sees it. It holds before `endsAtMs`, in place of the counter's own limits. */
export interface Override {
  readonly kind: OverrideKind;
  readonly endsAtMs: number;
  /** The limits in force. Only of kind `limits`. */
  readonly limits?: readonly Limit[] | undefined;
  /** Events from this instant on are kept while the override is in force, whatever their retention. */
  readonly keptFromMs?: number | undefined;
}

/** The override of a key as one of its counters sees it. Undefined if it leaves the counter as it is. */
export function overrideOf(override: KeyOverride, policy: string, layer: string): Override | undefined {
  const { kind, endsAtMs, layers } = override;
  if (kind !== "limits") return { kind, endsAtMs };
  const own = layers?.find((counter) => counter.policy === policy && counter.layer === layer);
  return own && { kind, endsAtMs, limits: own.limits, keptFromMs: own.keptFromMs };
}

/** How an override of a counter stands at one instant. All waits count from that instant, if nobody consumes. */
export interface OverrideStanding {
  readonly kind: OverrideKind;
  /** The limits in force, unless they are the counter's own. */
  readonly limits?: readonly Limit[] | undefined;
  readonly endsInMs: number;
  /** Until the cost fits all of the counter's own limits, which hold again once the override has ended. */
  readonly ownFitsInMs: number;
}

interface OverriddenLog {
  readonly log: EventLog;
  readonly limits: readonly Limit[];
  readonly cost: number;
  readonly override: Override;
}

/**
 * How the limits in force stand. A cost that does not fit before the override ends fits once the override has ended and the
 * counter's own limits admit it. A cost of 0 always fits, under a ban too.
 */
export function overriddenStandings(counter: OverriddenLog, nowMs: number): Standing[] {
  const { limits, cost, override } = counter;
  const { endsInMs, ownFitsInMs } = overrideStandingOf(counter, nowMs);
  return (override.limits ?? limits).map((limit) => {
    const standing = standingOrNever(counter, limit, nowMs);
    if (cost === 0) return standing;
    const waitMs = { limits: standing.fitsInMs, exempt: 0, ban: Number.POSITIVE_INFINITY }[override.kind];
    return { ...standing, fitsInMs: waitMs < endsInMs ? waitMs : Math.max(endsInMs, ownFitsInMs) };
  });
}

export function overrideStandingOf(counter: OverriddenLog, nowMs: number): OverrideStanding {
  const { limits, override } = counter;
  return {
    kind: override.kind,
    ...(override.limits && { limits: override.limits }),
    endsInMs: override.endsAtMs - nowMs,
    ownFitsInMs: Math.max(...limits.map((limit) => standingOrNever(counter, limit, nowMs).fitsInMs)),
  };
}

/** How a limit stands for a cost that may be above it, and so never fits. */
function standingOrNever({ log, cost, override }: OverriddenLog, limit: Limit, nowMs: number): Standing {
  const standing = log.standing(limit, Math.min(cost, limit.max), nowMs, override.keptFromMs);
  const isTooMuch = limit.kind === undefined && cost > limit.max;
  return isTooMuch ? { ...standing, fitsInMs: Number.POSITIVE_INFINITY } : standing;
}
