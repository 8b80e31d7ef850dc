/** How one limit stands at one instant. All waits count from that instant, if nobody consumes. */
export interface Standing {
  /** The cost recorded in the window. A concurrent limit counts the events that are not released. */
  readonly used: number;
  /** Until the cost in question fits. 0 if it fits now. */
  readonly fitsInMs: number;
  /** Until some of `used` leaves the window. 0 if nothing is used. */
  readonly freesInMs: number;
  /** Until nothing is used. 0 if nothing is. */
  readonly resetsInMs: number;
  /** Until the counter has room for another event, which `fitsInMs` includes. Left out if it has room. */
  readonly fullForMs?: number;
}

/** How many instants a verdict foretells at most at which something leaves a window. */
export const MOST_LEAVINGS = 32;

/** The standing after `sinceMs`, if nobody has consumed since. `leavings`: `[inMs, weight, inMs, weight, …]`. */
export function standingAfter(sinceMs: number, standing: Standing, leavings: readonly number[]): Standing {
  let { used } = standing;
  let i = 0;
  for (; i < leavings.length && (leavings[i] as number) <= sinceMs; i += 2) used -= leavings[i + 1] as number;
  return {
    used,
    fitsInMs: Math.max(0, standing.fitsInMs - sinceMs),
    freesInMs: used > 0 ? (leavings[i] as number) - sinceMs : 0,
    resetsInMs: used > 0 ? standing.resetsInMs - sinceMs : 0,
    ...(standing.fullForMs !== undefined && { fullForMs: Math.max(0, standing.fullForMs - sinceMs) }),
  };
}

/** How much a limit still admits. A limit that was lowered may have more in use than it allows. */
export function remaining(max: number, used: number): number {
  return Math.max(0, max - used);
}
