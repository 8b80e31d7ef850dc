import { check } from "../src/core/decide";
import { type Limit, LONGEST_WINDOW_MS, parseLimit } from "../src/core/limit";
import { EventLog } from "../src/core/sliding-window";
import type { CountedEvent } from "./counters";

/** An event, and what another set of limits would have said to it. */
export interface Replayed {
  readonly event: CountedEvent;
  readonly allowed: boolean;
}

/**
 * Limits in their notation, with commas in between: `5/minute, 60 per hour`.
 * @throws RangeError that says what is wrong with the text, or that nothing is known of when decisions were released.
 */
export function parseLimits(text: string): Limit[] {
  return limitTexts(text).map((limit) => {
    if (/\sconcurrent\b/i.test(limit))
      throw new RangeError(`"${limit}" counts what is under way, which is not replayed`);
    return parseLimit(limit);
  });
}

export function limitTexts(text: string): string[] {
  return text
    .split(",")
    .map((limit) => limit.trim())
    .filter((limit) => limit !== "");
}

/**
 * Decides events again, oldest first, by other limits: each by the cost that was asked for, and it counts what it was
 * settled at. A denied one leaves nothing, so that a later one may fit.
 */
export function replay(events: readonly CountedEvent[], limits: readonly Limit[]): Replayed[] {
  const smallest = Math.min(...limits.map(({ max }) => max));
  const log = new EventLog();
  return events.map((event) => {
    const { atMs, cost, admittedCost = cost } = event;
    const allowed = admittedCost <= smallest && check([{ log, limits }], admittedCost, atMs).allowed;
    if (allowed) log.record({ atMs, cost, released: false, retainMs: LONGEST_WINDOW_MS });
    return { event, allowed };
  });
}
