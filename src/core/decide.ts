import { type Limit, longestWindowMs } from "./limit";
import type { EventLog, Standing } from "./log";

/** The log of one policy's layer and key, under the limits in force. */
export interface Counter {
  readonly log: EventLog;
  readonly limits: readonly Limit[];
}

export interface Verdict {
  readonly allowed: boolean;
  /**
   * How every limit of every counter stands, in the order given, after the verdict: with the cost where it was
   * recorded, without it where it was only asked about or denied.
   */
  readonly standings: readonly (readonly Standing[])[];
}

/** Would every limit of every counter admit `cost`? Records nothing. `cost` is at most the smallest of the limits. */
export function check(counters: readonly Counter[], cost: number, nowMs: number): Verdict {
  const standings = counters.map(({ log, limits }) => limits.map((limit) => log.standing(limit, cost, nowMs)));
  return { allowed: standings.every((limits) => limits.every(({ fitsInMs }) => fitsInMs === 0)), standings };
}

/** Records `cost` in every counter if every limit of every counter admits it, and in none otherwise. */
export function consume(counters: readonly Counter[], cost: number, nowMs: number): Verdict {
  const verdict = check(counters, cost, nowMs);
  if (!verdict.allowed) return verdict;
  for (const { log, limits } of counters) {
    log.record(nowMs, cost);
    log.dropBefore(longestWindowMs(limits), nowMs);
  }
  return { allowed: true, standings: check(counters, cost, nowMs).standings };
}
