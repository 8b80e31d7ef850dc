import type { Limit } from "../../src/core/limit";
import type { Standing } from "../../src/core/log";

interface OracleEvent {
  readonly id: string;
  readonly atMs: number;
  cost: number;
  /** What it was for is over. */
  released: boolean;
  /** Older than the longest window at a later admitted consume: the log may have dropped it, or not yet. */
  forgettable: boolean;
}

/**
 * The contract's sentence, word for word, and nothing clever: keeps every event for ever and adds up.
 * It shares no code with what it judges.
 */
export class Oracle {
  events: OracleEvent[] = [];

  usedAt(tMs: number, { kind, windowMs }: Limit, events = this.events): number {
    const inside = events.filter(({ atMs }) => atMs > tMs - windowMs && atMs <= tMs);
    if (kind === "concurrent") return inside.filter(({ released }) => !released).length;
    return inside.reduce((sum, { cost }) => sum + cost, 0);
  }

  fits(cost: number, tMs: number, limit: Limit): boolean {
    const used = this.usedAt(tMs, limit);
    return limit.kind === "concurrent" ? used < limit.max : used <= limit.max - cost;
  }

  standing(limit: Limit, cost: number, nowMs: number): Standing {
    // Nothing changes between the instants at which an event leaves, so the first of them that will do is the answer.
    const instants = [nowMs, ...this.events.map(({ atMs }) => atMs + limit.windowMs).filter((atMs) => atMs > nowMs)];
    instants.sort((a, b) => a - b);
    const first = (test: (tMs: number) => boolean) => (instants.find(test) ?? Number.NaN) - nowMs;
    const used = this.usedAt(nowMs, limit);
    return {
      used,
      fitsInMs: first((tMs) => this.fits(cost, tMs, limit)),
      freesInMs: used === 0 ? 0 : first((tMs) => this.usedAt(tMs, limit) < used),
      resetsInMs: first((tMs) => this.usedAt(tMs, limit) === 0),
    };
  }

  record(atMs: number, cost: number, longestWindowMs: number, id = ""): void {
    this.events.push({ id, atMs, cost, released: false, forgettable: false });
    for (const event of this.events) if (event.atMs <= atMs - longestWindowMs) event.forgettable = true;
  }

  /** Whether a window reaches back to events that may be gone. */
  isAmbiguous({ windowMs }: Limit, nowMs: number): boolean {
    return this.events.some(({ atMs, forgettable }) => forgettable && atMs > nowMs - windowMs);
  }

  leastUsedAt(tMs: number, limit: Limit): number {
    return this.usedAt(
      tMs,
      limit,
      this.events.filter(({ forgettable }) => !forgettable),
    );
  }
}
