import { assert } from "./assert";
import type { Limit } from "./limit";
import { MOST_LEAVINGS, type Standing } from "./standing";

/** An event as a counter sees it. */
export interface LoggedEvent {
  readonly atMs: number;
  /** 0 if it was settled at 0. The event stays in the log, with its retention. */
  readonly cost: number;
  /** It no longer takes a place in a concurrent limit. */
  readonly released: boolean;
  /** How long the event is kept at least: the longest window in force when it was admitted. */
  readonly retainMs: number;
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
  #retainMs: number[] = [];
  /** `#costs[i]` is the cost of all events before event i. `#places[i]` is how many of them are not released. */
  #costs: number[] = [0];
  #places: number[] = [0];
  /** No event before this one is within its own retention. */
  #oldest = 0;
  #untilMs = 0;
  #lastNowMs = Number.NEGATIVE_INFINITY;

  /** How many events are in memory. Some may not be kept any more, and not be dropped yet. */
  get size(): number {
    return this.#atMs.length;
  }

  /** The instant from which none of the events recorded so far is kept. */
  get untilMs(): number {
    return this.#untilMs;
  }

  /** Adds an event at the place of its time. A new event goes to the end. */
  record({ atMs, cost, released, retainMs }: LoggedEvent): void {
    assert(cost >= 0 && retainMs > 0, "an event has a cost of at least 0 and a retention above 0 ms");
    const i = this.#firstAfter(atMs);
    if (this.size === 0) {
      // Exact arrays: many logs have one event, and a push would reserve places for 17.
      this.#atMs = [atMs];
      this.#retainMs = [retainMs];
      this.#costs = [0, cost];
      this.#places = [0, released ? 0 : 1];
    } else if (i === this.size) {
      this.#atMs.push(atMs);
      this.#retainMs.push(retainMs);
      this.#costs.push(at(this.#costs, i) + cost);
      this.#places.push(at(this.#places, i) + (released ? 0 : 1));
    } else {
      this.#atMs.splice(i, 0, atMs);
      this.#retainMs.splice(i, 0, retainMs);
      this.#costs.splice(i + 1, 0, at(this.#costs, i));
      this.#places.splice(i + 1, 0, at(this.#places, i));
      this.#add(i, cost, released ? 0 : 1);
    }
    this.#oldest = Math.min(this.#oldest, i);
    this.#untilMs = Math.max(this.#untilMs, atMs + retainMs);
  }

  /** Removes an event. Does nothing if it was dropped already. */
  remove(event: LoggedEvent): void {
    const i = this.#indexOf(event);
    if (i < 0) return;
    this.#add(i, -event.cost, event.released ? 0 : -1);
    this.#atMs.splice(i, 1);
    this.#retainMs.splice(i, 1);
    this.#costs.splice(i + 1, 1);
    this.#places.splice(i + 1, 1);
    if (i < this.#oldest) this.#oldest--;
  }

  /**
   * How a limit stands for `cost`. An override in force spares events from `sparedFromMs` on: they are kept whatever their
   * retention.
   */
  standing(limit: Limit, cost: number, nowMs: number, sparedFromMs?: number): Standing {
    const sums = this.#sumsOf(limit);
    const weight = weightOf(limit, cost);
    const head = this.#head(limit.windowMs, nowMs, sparedFromMs);
    const used = at(sums, this.size) - at(sums, head);
    const excess = used + weight - limit.max;
    // An event of `atMs` leaves the window in `atMs + offsetMs`.
    const offsetMs = limit.windowMs - nowMs;
    return {
      used,
      fitsInMs: excess > 0 ? at(this.#atMs, leaving(sums, head, excess)) + offsetMs : 0,
      freesInMs: used > 0 ? at(this.#atMs, leaving(sums, head, 1)) + offsetMs : 0,
      resetsInMs: used > 0 ? at(this.#atMs, leaving(sums, head, used)) + offsetMs : 0,
    };
  }

  /** Whether a limit admits `cost` now. Cheaper than a `standing`. Only for counters without an override. */
  admits(limit: Limit, cost: number, nowMs: number): boolean {
    const sums = this.#sumsOf(limit);
    const head = this.#head(limit.windowMs, nowMs);
    return at(sums, this.size) - at(sums, head) + weightOf(limit, cost) <= limit.max;
  }

  /**
   * What leaves a limit's window next, as `[inMs, weight, inMs, weight, …]`: up to the first instant after `withinMs`, and
   * at most `MOST_LEAVINGS` instants.
   */
  leavings(limit: Limit, nowMs: number, withinMs: number, sparedFromMs?: number): number[] {
    const sums = this.#sumsOf(limit);
    const leavings: number[] = [];
    let i = this.#head(limit.windowMs, nowMs, sparedFromMs);
    while (at(sums, i) < at(sums, this.size) && leavings.length < 2 * MOST_LEAVINGS) {
      i = leaving(sums, i, 1);
      const atMs = at(this.#atMs, i);
      const next = this.#firstAfter(atMs);
      const inMs = atMs + limit.windowMs - nowMs;
      leavings.push(inMs, at(sums, next) - at(sums, i));
      if (inMs > withinMs) break;
      i = next;
    }
    return leavings;
  }

  /** The instant from which events are kept. Infinity if none is kept. */
  keptFromMs(nowMs: number, sparedFromMs = Number.POSITIVE_INFINITY): number {
    // The empty log is shared by all counters that have admitted nothing, whatever their clocks.
    if (this.size === 0) return sparedFromMs;
    assert(nowMs >= this.#lastNowMs, "time never goes back");
    this.#lastNowMs = nowMs;
    while (this.#oldest < this.size && at(this.#atMs, this.#oldest) + at(this.#retainMs, this.#oldest) <= nowMs)
      this.#oldest++;
    return Math.min(this.#atMs[this.#oldest] ?? Number.POSITIVE_INFINITY, sparedFromMs);
  }

  /** Drops events that are not kept any more. It does so in bulk, so that each event is moved O(1) times. */
  drop(nowMs: number, sparedFromMs?: number): void {
    const gone = this.#firstAfter(this.keptFromMs(nowMs, sparedFromMs) - 1);
    if (gone < 64 || gone < this.size / 2) return;
    this.#atMs.splice(0, gone);
    this.#retainMs.splice(0, gone);
    this.#costs.splice(0, gone);
    this.#places.splice(0, gone);
    this.#oldest = Math.max(0, this.#oldest - gone);
  }

  #sumsOf({ kind }: Limit): readonly number[] {
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
        this.#retainMs[i] === retainMs &&
        at(this.#costs, i + 1) - at(this.#costs, i) === cost &&
        at(this.#places, i + 1) - at(this.#places, i) === (released ? 0 : 1)
      )
        return i;
    return -1;
  }

  /** Changes what event `i` weighs. */
  #add(i: number, cost: number, places: number): void {
    for (let j = i + 1; j <= this.size; j++) {
      this.#costs[j] = at(this.#costs, j) + cost;
      this.#places[j] = at(this.#places, j) + places;
    }
  }
}

/** What an event adds to the sums of a limit. */
function weightOf({ kind, max, windowMs }: Limit, cost: number): number {
  assert(windowMs > 0, "a limit has a window above 0 ms");
  const weight = kind === "concurrent" ? 1 : cost;
  // Otherwise no event would be late enough for the cost to fit.
  assert(weight <= max, "a cost is at most the limit");
  return weight;
}

/** The first event, from `head` on, with which at least `weight` has left. Requires that much weight in the log. */
function leaving(sums: readonly number[], head: number, weight: number): number {
  const last = sums.length - 2;
  // A shortcut: `resetsInMs` asks for everything, which leaves with the newest event unless that weighs 0.
  if (at(sums, last) - at(sums, head) < weight) return last;
  // Weights are whole numbers.
  return firstAbove(at(sums, head) + weight - 1, sums, head + 1, last) - 1;
}

/**
 * The first index from `from` to `to` of a number above `bound`. Requires that the numbers never decrease, and that the one
 * at `to` is above the bound. Gallops before it halves the interval, since most answers are near the start.
 */
function firstAbove(bound: number, numbers: readonly number[], from: number, to: number): number {
  let low = from;
  let high = to;
  for (let step = 1; low + step <= to; step *= 2) {
    if (at(numbers, low + step - 1) > bound) {
      high = low + step - 1;
      break;
    }
    low += step;
  }
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(numbers, middle) > bound) high = middle;
    else low = middle + 1;
  }
  return low;
}

function at(numbers: readonly number[], index: number): number {
  return numbers[index] as number;
}
