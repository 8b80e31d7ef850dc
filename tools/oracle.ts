import type { Limit } from "../src/core/limit";
import type { Standing } from "../src/core/standing";

interface OracleEvent {
  readonly id: string;
  readonly atMs: number;
  cost: number;
  released: boolean;
  /** The event's own retention. */
  readonly retainMs: number;
}

/**
 * Decides by the sentences of docs/api.md, word for word: keeps every event for ever and adds up. Shares no code with what
 * it judges.
 */
export class Oracle {
  events: OracleEvent[] = [];

  constructor(
    /** How many events a counter holds at most. */
    private readonly mostEvents = Number.POSITIVE_INFINITY,
    /** How long before the end of its retention an event takes no more room. */
    private readonly marginMs = 0,
  ) {}

  /** An event is kept while it, or an event that is at least as old, is within its own retention. */
  keptAt(tMs: number): OracleEvent[] {
    const oldestMs = Math.min(...this.events.filter((e) => e.atMs + e.retainMs > tMs).map(({ atMs }) => atMs));
    return this.events.filter(({ atMs }) => atMs >= oldestMs);
  }

  /** Until there is room for another event, if nobody consumes. */
  fullForMs(nowMs: number): number {
    const hasRoom = (tMs: number) => this.keptAt(tMs + this.marginMs).length < this.mostEvents;
    const instants = [nowMs, ...this.events.map(({ atMs, retainMs }) => atMs + retainMs - this.marginMs)];
    return Math.min(...instants.filter((tMs) => tMs >= nowMs && hasRoom(tMs))) - nowMs;
  }

  usedAt(tMs: number, { kind, windowMs }: Limit, events = this.keptAt(tMs)): number {
    const inWindow = events.filter(({ atMs }) => atMs > tMs - windowMs && atMs <= tMs);
    if (kind === "concurrent") return inWindow.filter(({ released }) => !released).length;
    return inWindow.reduce((sum, { cost }) => sum + cost, 0);
  }

  fits(cost: number, tMs: number, limit: Limit, events = this.keptAt(tMs)): boolean {
    // A cost of 0 decides nothing.
    if (cost === 0) return true;
    const used = this.usedAt(tMs, limit, events);
    return limit.kind === "concurrent" ? used < limit.max : used <= limit.max - cost;
  }

  /** How all limits of the counter stand. The first one with the longest window waits for room. */
  standings(limits: readonly Limit[], cost: number, nowMs: number): Standing[] {
    const standings = limits.map((limit) => this.standing(limit, cost, nowMs));
    const fullForMs = this.fullForMs(nowMs);
    if (fullForMs === 0) return standings;
    const longestMs = Math.max(...limits.map(({ windowMs }) => windowMs));
    const longest = limits.findIndex(({ windowMs }) => windowMs === longestMs);
    const waiting = standings[longest] as Standing;
    return standings.with(longest, { ...waiting, fitsInMs: Math.max(waiting.fitsInMs, fullForMs), fullForMs });
  }

  standing(limit: Limit, cost: number, nowMs: number): Standing {
    const kept = this.keptAt(nowMs);
    // Nothing changes between the instants at which events leave, so it is enough to try these.
    const instants = [nowMs, ...kept.map(({ atMs }) => atMs + limit.windowMs).filter((atMs) => atMs > nowMs)];
    instants.sort((a, b) => a - b);
    const first = (test: (tMs: number) => boolean) => (instants.find(test) ?? Number.NaN) - nowMs;
    const used = this.usedAt(nowMs, limit, kept);
    return {
      used,
      fitsInMs: first((tMs) => this.fits(cost, tMs, limit, kept)),
      freesInMs: used === 0 ? 0 : first((tMs) => this.usedAt(tMs, limit, kept) < used),
      resetsInMs: first((tMs) => this.usedAt(tMs, limit, kept) === 0),
    };
  }

  record(atMs: number, cost: number, retainMs: number, id = ""): void {
    // An event that was admitted at 0 takes no place in a concurrent limit.
    this.events.push({ id, atMs, cost, released: cost === 0, retainMs });
  }
}
