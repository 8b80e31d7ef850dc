import { type Limit, longestWindowMs } from "./limit";
import type { EventLog, Standing } from "./log";

/** The logs of one policy's layer and key, under the limits in force. */
export interface Counter {
  readonly log: EventLog;
  /** Of the events under way, each at a cost of 1: there if one of the limits counts them, or one did before. */
  readonly running?: EventLog | undefined;
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

/** How every limit of a counter stands, and when `cost` fits it. */
export function standingsOf({ log, running, limits }: Counter, cost: number, nowMs: number): Standing[] {
  return limits.map((limit) => {
    if (limit.kind === undefined) return log.standing(limit, cost, nowMs);
    if (!running) throw new Error("a counter has no log of what is under way");
    return running.standing(limit, 1, nowMs);
  });
}

/** Would every limit of every counter admit `cost`? Records nothing. `cost` is at most the smallest limit on costs. */
export function check(counters: readonly Counter[], cost: number, nowMs: number): Verdict {
  const standings = counters.map((counter) => standingsOf(counter, cost, nowMs));
  return { allowed: standings.every((limits) => limits.every(({ fitsInMs }) => fitsInMs === 0)), standings };
}

/** Records `cost` in every counter if every limit of every counter admits it, and in none otherwise. */
export function consume(counters: readonly Counter[], cost: number, nowMs: number): Verdict {
  const verdict = check(counters, cost, nowMs);
  if (!verdict.allowed) return verdict;
  for (const { log, running, limits } of counters) {
    log.record(nowMs, cost);
    running?.record(nowMs, 1);
    for (const one of [log, running]) one?.dropBefore(longestWindowMs(limits), nowMs);
  }
  return { allowed: true, standings: check(counters, cost, nowMs).standings };
}
