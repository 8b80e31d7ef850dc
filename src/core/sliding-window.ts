import { assert } from "./assert";
import type { Limit } from "./limit";
import { Repeated } from "./repeated";
import { MOST_LEAVINGS, type Standing } from "./standing";
import { firstAbove, Sums } from "./sums";

/** An event as a counter sees it. */
export interface LoggedEvent {
  readonly atMs: number;
  /** 0 if it was admitted or settled at 0. The event stays in the log, with its retention. */
  readonly cost: number;
  /** It takes no place in a concurrent limit: it was released, or admitted at 0. */
  readonly released: boolean;
  /** How long the event is kept at least: the longest window in force when it was admitted. */
  readonly retainMs: number;
}

/** How many events a counter holds at most, whatever its limits. It bounds the memory that a decision needs. */
export const MAX_EVENTS = 1_000_000;

/** How many events may be in memory that are not kept any more: a tenth of those that are. */
const MOST_GONE = MAX_EVENTS / 10;

/** The events that an override in force spares, whatever their retention. */
export interface Spared {
  readonly fromMs: number;
  /** The longest window of the override, which the events leave one by one. */
  readonly windowMs: number;
  readonly endsAtMs: number;
}

/**
 * The sliding windows of one counter: an exact log of what was admitted, and when.
 *
 * Every limit of the counter is a window over this log. The cost inside a window is the difference of two running sums,
 * so a decision takes O(log events), however many events are in the window.
 *
 * Retention belongs to the events, never to the question. At `nowMs` the counter keeps all events from the oldest one
 * whose retention has not passed. So it keeps a run of the newest events, which follows from times and retentions only;
 * dropping the others from memory changes no answer.
 *
 * Requires of its callers: `nowMs` never goes back, and costs are at least 0.
 */
export class EventLog {
  #atMs: number[] = [];
  readonly #retainMs = new Repeated();
  readonly #costs = new Sums();
  /** The weights of concurrent limits: 1 for an event that is not released. */
  readonly #places = new Sums();
  /** No event before this one is within its own retention. */
  #oldest = 0;
  /** No event before this one takes room any more, unless an override spares it. */
  #firstHeld = 0;
  #untilMs = 0;
  #lastNowMs = Number.NEGATIVE_INFINITY;

  constructor(
    /** An event takes no more room this long before its retention has passed. */
    private readonly marginMs = 0,
    private readonly mostEvents = MAX_EVENTS,
  ) {}

  /** How many events are in memory. Some may not be kept any more, and not be dropped yet. */
  get size(): number {
    return this.#atMs.length;
  }

  /** The instant from which none of the events recorded so far is kept. */
  get untilMs(): number {
    return this.#untilMs;
  }

  /** About how many bytes of memory the log takes. */
  get weightBytes(): number {
    const { bytesEach: retainBytes } = this.#retainMs;
    const bytesEach = 10 + retainBytes + this.#costs.bytesEach + this.#places.bytesEach;
    return 500 + this.size * bytesEach;
  }

  /** Adds an event at the place of its time. A new event goes to the end. */
  record({ atMs, cost, released, retainMs }: LoggedEvent): void {
    assert(cost >= 0 && retainMs > 0, "an event has a cost of at least 0 and a retention above 0 ms");
    const { size } = this;
    const i = this.#firstAfter(atMs);
    this.#retainMs.insert(i, retainMs, size);
    this.#costs.insert(i, cost, size);
    this.#places.insert(i, released ? 0 : 1, size);
    // An exact array: many logs have one event, and a push would reserve places for 17.
    if (size === 0) this.#atMs = [atMs];
    else if (i === size) this.#atMs.push(atMs);
    else this.#atMs.splice(i, 0, atMs);
    this.#oldest = Math.min(this.#oldest, i);
    this.#firstHeld = Math.min(this.#firstHeld, i);
    this.#untilMs = Math.max(this.#untilMs, atMs + retainMs);
  }

  /** Removes an event. Does nothing if it was dropped already. */
  remove(event: LoggedEvent): void {
    const i = this.#indexOf(event);
    if (i < 0) return;
    this.#atMs.splice(i, 1);
    this.#retainMs.remove(i);
    this.#costs.remove(i);
    this.#places.remove(i);
    if (i < this.#oldest) this.#oldest--;
    if (i < this.#firstHeld) this.#firstHeld--;
  }

  /**
   * How a limit stands for `cost`. A cost of 0 always fits. An override in force spares events from `sparedFromMs` on: they
   * are kept whatever their retention.
   */
  standing(limit: Limit, cost: number, nowMs: number, sparedFromMs?: number): Standing {
    const sums = this.#sumsOf(limit);
    const weight = weightOf(limit, cost);
    const head = this.#head(limit.windowMs, nowMs, sparedFromMs);
    const used = sums.before(this.size) - sums.before(head);
    const excess = used + weight - limit.max;
    // An event of `atMs` leaves the window in `atMs + offsetMs`.
    const offsetMs = limit.windowMs - nowMs;
    const leavesInMs = (weight: number) => at(this.#atMs, sums.leaving(head, weight, this.size)) + offsetMs;
    return {
      used,
      fitsInMs: weight > 0 && excess > 0 ? leavesInMs(excess) : 0,
      freesInMs: used > 0 ? leavesInMs(1) : 0,
      resetsInMs: used > 0 ? leavesInMs(used) : 0,
    };
  }

  /** Whether a limit admits `cost` now. Cheaper than a `standing`. Only for counters without an override. */
  admits(limit: Limit, cost: number, nowMs: number): boolean {
    const sums = this.#sumsOf(limit);
    const weight = weightOf(limit, cost);
    const head = this.#head(limit.windowMs, nowMs);
    return weight === 0 || sums.before(this.size) - sums.before(head) + weight <= limit.max;
  }

  /**
   * What leaves a limit's window next, as `[inMs, weight, inMs, weight, …]`: up to the first instant after `withinMs`, and
   * at most `MOST_LEAVINGS` instants.
   */
  leavings(limit: Limit, nowMs: number, withinMs: number, sparedFromMs?: number): number[] {
    const sums = this.#sumsOf(limit);
    const leavings: number[] = [];
    let i = this.#head(limit.windowMs, nowMs, sparedFromMs);
    while (sums.before(i) < sums.before(this.size) && leavings.length < 2 * MOST_LEAVINGS) {
      i = sums.leaving(i, 1, this.size);
      const atMs = at(this.#atMs, i);
      const next = this.#firstAfter(atMs);
      const inMs = atMs + limit.windowMs - nowMs;
      leavings.push(inMs, sums.before(next) - sums.before(i));
      if (inMs > withinMs) break;
      i = next;
    }
    return leavings;
  }

  /**
   * Until there is room for another event. 0 if there is room now. An event takes room until its retention has passed but
   * for the margin, and while an earlier event does. An override in force may spare it for longer.
   */
  fullForMs(nowMs: number, spared?: Spared): number {
    const { mostEvents } = this;
    if (this.size < mostEvents) return 0;
    const leavesAtMs = (i: number) => at(this.#atMs, i) + this.#retainMs.at(i) - this.marginMs;
    while (this.#firstHeld < this.size && leavesAtMs(this.#firstHeld) <= nowMs) this.#firstHeld++;
    // There is room once all events up to this instant have left. Those of one instant leave together.
    const lastMs = at(this.#atMs, this.size - mostEvents);
    let fullUntilMs = nowMs;
    for (let i = this.#firstHeld; i < this.size && at(this.#atMs, i) <= lastMs; i++)
      fullUntilMs = Math.max(fullUntilMs, leavesAtMs(i));
    if (spared && lastMs >= spared.fromMs)
      fullUntilMs = Math.max(fullUntilMs, Math.min(spared.endsAtMs, lastMs + spared.windowMs));
    return fullUntilMs - nowMs;
  }

  /** The instant from which events are kept. Infinity if none is kept. */
  keptFromMs(nowMs: number, sparedFromMs = Number.POSITIVE_INFINITY): number {
    // The empty log is shared by all counters that have admitted nothing, whatever their clocks.
    if (this.size === 0) return sparedFromMs;
    assert(nowMs >= this.#lastNowMs, "time never goes back");
    this.#lastNowMs = nowMs;
    while (this.#oldest < this.size && at(this.#atMs, this.#oldest) + this.#retainMs.at(this.#oldest) <= nowMs)
      this.#oldest++;
    return Math.min(this.#atMs[this.#oldest] ?? Number.POSITIVE_INFINITY, sparedFromMs);
  }

  /** Drops events that are not kept any more. It does so in bulk, so that each event is moved a few times at most. */
  drop(nowMs: number, sparedFromMs?: number): void {
    const gone = this.#firstAfter(this.keptFromMs(nowMs, sparedFromMs) - 1);
    if (gone < 64 || gone < Math.min(this.size / 2, MOST_GONE)) return;
    this.#atMs.splice(0, gone);
    this.#retainMs.dropFirst(gone);
    this.#costs.dropFirst(gone);
    this.#places.dropFirst(gone);
    this.#oldest = Math.max(0, this.#oldest - gone);
    this.#firstHeld = Math.max(0, this.#firstHeld - gone);
  }

  #sumsOf({ kind }: Limit): Sums {
    return kind === "concurrent" ? this.#places : this.#costs;
  }

  /** The first event that counts in the half-open window `(now - windowMs, now]`. */
  #head(windowMs: number, nowMs: number, sparedFromMs?: number): number {
    return this.#firstAfter(Math.max(nowMs - windowMs, this.keptFromMs(nowMs, sparedFromMs) - 1));
  }

  /** The index of the first event later than `ms`. */
  #firstAfter(ms: number): number {
    if (this.size === 0 || at(this.#atMs, this.size - 1) <= ms) return this.size;
    return firstAbove(ms, this.#atMs, 0, this.size - 1);
  }

  #indexOf({ atMs, cost, released, retainMs }: LoggedEvent): number {
    for (let i = this.#firstAfter(atMs) - 1; i >= 0 && this.#atMs[i] === atMs; i--)
      if (
        this.#retainMs.at(i) === retainMs &&
        this.#costs.weightOf(i) === cost &&
        this.#places.weightOf(i) === (released ? 0 : 1)
      )
        return i;
    return -1;
  }
}

/** What an event of this cost would add to the sums of a limit. */
function weightOf({ kind, max, windowMs }: Limit, cost: number): number {
  assert(windowMs > 0, "a limit has a window above 0 ms");
  assert(cost >= 0, "a cost is at least 0");
  const weight = kind === "concurrent" ? Math.min(cost, 1) : cost;
  // Otherwise no event would be late enough for the cost to fit.
  assert(weight <= max, "a cost is at most the limit");
  return weight;
}

function at(numbers: readonly number[], index: number): number {
  return numbers[index] as number;
}
