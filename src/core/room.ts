import { type Limit, longestWindowMs } from "./limit";
import { type Override, overrideStandingOf } from "./override";
import type { EventLog } from "./sliding-window";
import type { Standing } from "./standing";

interface Counter {
  readonly log: EventLog;
  readonly limits: readonly Limit[];
  readonly cost: number;
  readonly override?: Override | undefined;
}

/** The wait until the counter has room for another event: nearly always 0. */
export function fullForMs({ log, override }: Counter, nowMs: number): number {
  if (!override?.limits || override.keptFromMs === undefined) return log.fullForMs(nowMs);
  const { keptFromMs: fromMs, limits, endsAtMs } = override;
  return log.fullForMs(nowMs, { fromMs, windowMs: longestWindowMs(limits), endsAtMs });
}

/**
 * The standings of the limits in force, with the wait for room. The limit with the longest window waits for it, so a counter
 * without room denies as if this limit were reached.
 */
export function withRoom(counter: Counter, standings: readonly Standing[], nowMs: number): readonly Standing[] {
  const waitMs = fullForMs(counter, nowMs);
  if (waitMs === 0) return standings;
  const { limits, override } = counter;
  const inForce = override?.limits ?? limits;
  const longest = inForce.findIndex(({ windowMs }) => windowMs === longestWindowMs(inForce));
  return standings.map((standing, l) => {
    if (l !== longest) return standing;
    const fitsInMs = Math.max(standing.fitsInMs, waitMs);
    if (!override || fitsInMs < override.endsAtMs - nowMs) return { ...standing, fitsInMs, fullForMs: waitMs };
    // The counter's own limits hold again by then.
    const { ownFitsInMs } = overrideStandingOf({ ...counter, override }, nowMs);
    return { ...standing, fitsInMs: Math.max(fitsInMs, ownFitsInMs), fullForMs: waitMs };
  });
}
