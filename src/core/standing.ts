import type { Limit } from "./limit";
import type { EventLog, Standing } from "./log";

/** What one policy's layer and key has admitted. */
export interface Logs {
  readonly log: EventLog;
  /** Of the events under way, each at a cost of 1: there if one of the limits counts them, or one did before. */
  readonly underWay?: EventLog | undefined;
}

/** How one limit stands, and when `cost` fits it: a limit on what is under way counts every decision as one. */
export function standingOf({ log, underWay }: Logs, limit: Limit, cost: number, nowMs: number): Standing {
  if (limit.kind === undefined) return log.standing(limit, cost, nowMs);
  if (!underWay) throw new Error("a counter has no log of what is under way");
  return underWay.standing(limit, 1, nowMs);
}
