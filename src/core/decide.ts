import { type Limit, longestWindowMs } from "./limit";
import { type Override, type OverrideStanding, overriddenStandings, overrideStandingOf } from "./override";
import type { EventLog } from "./sliding-window";
import type { Standing } from "./standing";

/** The log of one policy's layer and key, under the limits in force. */
export interface LimitedLog {
  readonly log: EventLog;
  readonly limits: readonly Limit[];
  /** In force at the time of the decision. */
  readonly override?: Override | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /**
   * How every limit in force of every counter stands, in the order given, after the verdict: with the cost where it was
   * recorded, without it where it was only asked about or denied.
   */
  readonly standings: readonly (readonly Standing[])[];
  /** What overrides each of the counters, null where nothing does; left out where nothing overrides any. */
  readonly overrides?: readonly (OverrideStanding | null)[];
}

/**
 * Would every limit in force of every counter admit `cost`? Records nothing. `cost` is at most the smallest of the
 * counters' own limits on costs.
 */
export function check(counters: readonly LimitedLog[], cost: number, nowMs: number): Verdict {
  const standings = counters.map((counter) => standingsOf(counter, cost, nowMs));
  const allowed = standings.every((limits) => limits.every(({ fitsInMs }) => fitsInMs === 0));
  if (!counters.some(isOverridden)) return { allowed, standings };
  const overrides = counters.map((counter) =>
    isOverridden(counter) ? overrideStandingOf(counter, cost, nowMs) : null,
  );
  return { allowed, standings, overrides };
}

/**
 * Records `cost` in every counter if every limit in force of every counter admits it, and in none otherwise. Each keeps
 * it for the longest of its own windows in force.
 */
export function consume(counters: readonly LimitedLog[], cost: number, nowMs: number): Verdict {
  const verdict = check(counters, cost, nowMs);
  if (!verdict.allowed) return verdict;
  for (const counter of counters) {
    const { log, override } = counter;
    log.record({ atMs: nowMs, cost, released: false, retainMs: longestInForceMs(counter) });
    log.drop(nowMs, override?.keptFromMs);
  }
  return { ...check(counters, cost, nowMs), allowed: true };
}

/** How every limit in force of a counter stands, and when `cost` fits it. */
export function standingsOf(counter: LimitedLog, cost: number, nowMs: number): Standing[] {
  if (isOverridden(counter)) return overriddenStandings(counter, cost, nowMs);
  return counter.limits.map((limit) => counter.log.standing(limit, cost, nowMs));
}

/** What leaves the windows of every limit in force next (`EventLog.leavings`), in the order of a verdict's standings. */
export function leavingsOf(counters: readonly LimitedLog[], nowMs: number, withinMs: number): number[][][] {
  return counters.map(({ log, limits, override }) =>
    (override?.limits ?? limits).map((limit) => log.leavings(limit, nowMs, withinMs, override?.keptFromMs)),
  );
}

/** How long an event that is admitted now can count: the counter's own limits may hold again before it has left their windows. */
export function longestInForceMs({ limits, override }: Pick<LimitedLog, "limits" | "override">): number {
  const own = longestWindowMs(limits);
  return override?.limits ? Math.max(own, longestWindowMs(override.limits)) : own;
}

function isOverridden(counter: LimitedLog): counter is LimitedLog & { readonly override: Override } {
  return counter.override !== undefined;
}
