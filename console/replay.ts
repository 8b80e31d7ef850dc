import { check } from "../src/core/decide";
import { type Limit, LONGEST_WINDOW_MS, parseLimit } from "../src/core/limit";
import { EventLog } from "../src/core/sliding-window";
import type { CountedEvent } from "./counters";

/** An event, and whether other limits would have admitted it. */
export interface Replayed {
  readonly event: CountedEvent;
  readonly allowed: boolean;
}

/**
 * Reads limits separated by commas: `5/minute, 60 per hour`.
 * @throws RangeError if the text is not valid or has a concurrent limit, since events do not show their releases
 */
export function parseLimits(text: string): Limit[] {
  return limitTexts(text).map((limit) => {
    if (/\sconcurrent\b/i.test(limit))
      throw new RangeError(`"${limit}" is a concurrent limit. Only limits on costs can be replayed.`);
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
 * Decides events again under other limits, oldest first. An event is decided by its cost at admission and counts its
 * settled cost. A denied event counts nothing, so that a later event may fit.
 */
export function replay(events: readonly CountedEvent[], limits: readonly Limit[]): Replayed[] {
  const smallest = Math.min(...limits.map(({ max }) => max));
  const log = new EventLog();
  return events.map((event) => {
    const { atMs, cost, admittedCost = cost } = event;
    const allowed = admittedCost <= smallest && check([{ log, limits, cost: admittedCost }], atMs).allowed;
    if (allowed) log.record({ atMs, cost, released: false, retainMs: LONGEST_WINDOW_MS });
    return { event, allowed };
  });
}
