import { assert } from "./assert";
import { type Limit, longestWindowMs } from "./limit";
import { type Override, type OverrideStanding, overriddenStandings, overrideStandingOf } from "./override";
import { fullForMs, withRoom } from "./room";
import type { EventLog } from "./sliding-window";
import type { Standing } from "./standing";

/** A counter with its events: the log of a policy, a layer and a key, with the limits to hold and the cost in question. */
export interface LimitedLog {
  readonly log: EventLog;
  /** The counter's own limits, even if an override is in force. */
  readonly limits: readonly Limit[];
  /** The cost in question, in the counter's layer. A counter with a cost of 0 decides nothing. */
  readonly cost: number;
  /** In force at the time of the decision. */
  readonly override?: Override | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /** How every limit in force of every counter stands after the verdict, in the order given. Includes a cost that was recorded. */
  readonly standings: readonly (readonly Standing[])[];
  /** The override of each counter, null for none. Left out if no counter has one. */
  readonly overrides?: readonly (OverrideStanding | null)[];
}

/**
/**
 * Would every limit in force of every counter admit the counter's cost, and has every counter room for the event? Records
 * nothing. Requires that each cost is from 0 to the smallest of the counter's own limits on costs.
 */
export function check(counters: readonly LimitedLog[], nowMs: number): Verdict {
  const standings = counters.map((counter) => standingsOf(counter, nowMs));
  const allowed = standings.every((limits) => limits.every(({ fitsInMs }) => fitsInMs === 0));
  if (!counters.some(isOverridden)) return { allowed, standings };
  const overrides = counters.map((counter) => (isOverridden(counter) ? overrideStandingOf(counter, nowMs) : null));
  return { allowed, standings, overrides };
}

/** The same, as a yes or no: cheaper than a verdict. */
export function admits(counters: readonly LimitedLog[], nowMs: number): boolean {
  return counters.every((counter) => {
    if (fullForMs(counter, nowMs) > 0) return false;
    return isOverridden(counter)
      ? overriddenStandings(counter, nowMs).every(({ fitsInMs }) => fitsInMs === 0)
      : counter.limits.every((limit) => counter.log.admits(limit, counter.cost, nowMs));
  });
}

/**
 * Records an event in every counter, at the counter's cost, if `check` would allow it, and in none otherwise. Each counter
 * keeps the event for the longest of its windows.
 */
export function consume(counters: readonly LimitedLog[], nowMs: number): Verdict {
  const verdict = check(counters, nowMs);
  if (!verdict.allowed) return verdict;
  for (const counter of counters) {
    const { log, cost, override } = counter;
    log.record({ atMs: nowMs, cost, released: cost === 0, retainMs: longestInForceMs(counter) });
    log.drop(nowMs, override?.keptFromMs);
  }
  return { ...check(counters, nowMs), allowed: true };
}

/** How every limit in force of a counter stands for its cost, with the wait for room. */
export function standingsOf(counter: LimitedLog, nowMs: number): readonly Standing[] {
  const standings = isOverridden(counter)
    ? overriddenStandings(counter, nowMs)
    : counter.limits.map((limit) => counter.log.standing(limit, counter.cost, nowMs));
  return withRoom(counter, standings, nowMs);
}

/** What leaves the window of every limit in force next (`EventLog.leavings`), in the order of a verdict's standings. */
export function leavingsOf(counters: readonly LimitedLog[], nowMs: number, withinMs: number): number[][][] {
  return counters.map(({ log, limits, override }) =>
    (override?.limits ?? limits).map((limit) => log.leavings(limit, nowMs, withinMs, override?.keptFromMs)),
  );
}

/** The longest window in which an event of now may count. The counter's own limits may hold again before it has left them. */
export function longestInForceMs({ limits, override }: Pick<LimitedLog, "limits" | "override">): number {
  assert(limits.length > 0, "a counter has a limit");
  const own = longestWindowMs(limits);
  return override?.limits ? Math.max(own, longestWindowMs(override.limits)) : own;
}

function isOverridden(counter: LimitedLog): counter is LimitedLog & { readonly override: Override } {
  return counter.override !== undefined;
}
