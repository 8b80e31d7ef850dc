import type { Limit } from "./limit";

/** How one limit stands at one instant. All waits are from that instant on, if nobody consumes. */
export interface Standing {
  /** The cost recorded in the window. */
  readonly used: number;
  /** Until the cost asked about fits: 0 when it fits now. */
  readonly fitsInMs: number;
  /** Until some of what is used comes back: 0 when nothing is used. */
  readonly freesInMs: number;
  /** Until nothing is used any more: 0 when nothing is. */
  readonly resetsInMs: number;
}

/**
 * The exact log of one counter: what was admitted, and when.
 *
 * Every limit of the counter is a window over this one log. The cost inside a window is the difference of two
 * running sums, and the first event inside it only ever moves forward, so that a decision costs the same however
 * long the log is: amortised O(1), and O(log cost) for the wait of a denied one.
 *
 * Callers pass `nowMs`, which must never be less than in an earlier call, and costs of at least 1.
 */
export class EventLog {
  readonly #atMs: number[] = [];
  /** `#sums[i]` is the cost of all events before event i: one entry more than there are events. */
  readonly #sums: number[] = [0];
  /** Per window length, the index of the first event inside that window when it was last looked at. */
  readonly #heads = new Map<number, number>();

  /** How many events are held, those that have left every window but are not dropped yet included. */
  get size(): number {
    return this.#atMs.length;
  }

  record(atMs: number, cost: number): void {
    this.#atMs.push(atMs);
    this.#sums.push(this.#sumBefore(this.size - 1) + cost);
  }

  standing(limit: Limit, cost: number, nowMs: number): Standing {
    const head = this.#head(limit.windowMs, nowMs);
    const used = this.#sumBefore(this.size) - this.#sumBefore(head);
    const leavesInMs = (index: number) => this.#at(index) + limit.windowMs - nowMs;
    const excess = used + cost - limit.max;
    return {
      used,
      fitsInMs: excess > 0 ? leavesInMs(this.#lastToLeave(head, excess)) : 0,
      freesInMs: used > 0 ? leavesInMs(head) : 0,
      resetsInMs: used > 0 ? leavesInMs(this.size - 1) : 0,
    };
  }

  /**
   * Corrects the cost of an event that was recorded at `atMs`, from what it is to what it shall be. An event of cost 0
   * is not in the log: 0 takes one out, and from 0 one comes back. Does nothing when the event was dropped already.
   * As long as the way from the newest event.
   */
  recost(atMs: number, from: number, to: number): void {
    let i = this.size;
    while (i > 0 && this.#at(i - 1) > atMs) i--;
    if (from > 0) {
      do i--;
      while (i >= 0 && this.#at(i) === atMs && this.#sumBefore(i + 1) - this.#sumBefore(i) !== from);
      if (i < 0 || this.#at(i) !== atMs) return;
      this.#atMs.splice(i, 1);
      this.#sums.splice(i + 1, 1);
      this.#moveHeads(i, -1);
    }
    if (to > 0) {
      this.#atMs.splice(i, 0, atMs);
      this.#sums.splice(i + 1, 0, this.#sumBefore(i) + from);
      this.#moveHeads(i, 1);
    }
    for (let j = i + 1; j < this.#sums.length; j++) this.#sums[j] = this.#sumBefore(j) + to - from;
  }

  /** Drops events that a window of `windowMs` can't see any more: in bulk, so that each is moved O(1) times. */
  dropBefore(windowMs: number, nowMs: number): void {
    const gone = this.#head(windowMs, nowMs);
    if (gone < 64 || gone < this.size / 2) return;
    this.#atMs.splice(0, gone);
    this.#sums.splice(0, gone);
    for (const [length, head] of this.#heads) this.#heads.set(length, Math.max(0, head - gone));
  }

  /** The events behind index `i` have moved; a head that is too low after that moves on by itself. */
  #moveHeads(i: number, by: 1 | -1): void {
    for (const [windowMs, head] of this.#heads) if (head > i) this.#heads.set(windowMs, head + by);
  }

  /** The first event of the half-open window `(now - windowMs, now]`. */
  #head(windowMs: number, nowMs: number): number {
    let head = this.#heads.get(windowMs) ?? 0;
    while (head < this.size && this.#at(head) <= nowMs - windowMs) head++;
    this.#heads.set(windowMs, head);
    return head;
  }

  /**
   * The event from `head` on with whose leaving at least `excess` has left. Gallops, then halves the interval: the
   * answer is near the head, since every event before it counts towards `excess`.
   */
  #lastToLeave(head: number, excess: number): number {
    const enough = (index: number) => this.#sumBefore(index + 1) - this.#sumBefore(head) >= excess;
    let step = 1;
    while (head + step < this.size && !enough(head + step - 1)) step *= 2;
    let low = head + (step >> 1);
    let high = Math.min(head + step, this.size) - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (enough(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #at(index: number): number {
    return this.#atMs[index] as number;
  }

  #sumBefore(index: number): number {
    return this.#sums[index] as number;
  }
}
