/**
 * Running sums of the weights of a list of events. Only differences mean something: `before(j) - before(i)` is the weight of
 * events i to j - 1. They are exact up to 2^53, nine million events of the largest cost. While every event weighs 1, which is
 * common, no sum is in memory: `before(i)` is i.
 *
 * The owner of the list knows its size.
 */
export class Sums {
  /** One more than there are events. Undefined while every event weighs 1. */
  #sums: number[] | undefined;

  /** About how many bytes of memory a sum takes. */
  get bytesEach(): number {
    if (!this.#sums) return 0;
    // V8 keeps small integers in half the space of other numbers.
    return (this.#sums.at(-1) ?? 0) < 2 ** 30 ? 6 : 10;
  }

  before(i: number): number {
    return this.#sums ? (this.#sums[i] as number) : i;
  }

  weightOf(i: number): number {
    return this.before(i + 1) - this.before(i);
  }

  insert(i: number, weight: number, size: number): void {
    if (size === 0) this.#sums = undefined;
    if (weight !== 1) this.#sums ??= Array.from({ length: size + 1 }, (_, i) => i);
    const sums = this.#sums;
    if (!sums) return;
    if (i < size) sums.splice(i, 0, this.before(i));
    else sums.push(this.before(i));
    for (let j = i + 1; j < sums.length; j++) (sums[j] as number) += weight;
  }

  remove(i: number): void {
    const weight = this.weightOf(i);
    const sums = this.#sums;
    if (!sums) return;
    sums.splice(i, 1);
    for (let j = i; j < sums.length; j++) (sums[j] as number) -= weight;
  }

  /** The sums that are left begin at 0 again, so that they stay exact however many events come and go. */
  dropFirst(count: number): void {
    const dropped = this.before(count);
    this.#sums = this.#sums?.slice(count).map((sum) => sum - dropped);
  }

  /** The first event, from `head` on, with which at least `weight` has left. Requires that much weight from `head` on. */
  leaving(head: number, weight: number, size: number): number {
    // Weights are whole numbers.
    const bound = this.before(head) + weight - 1;
    if (!this.#sums) return bound;
    // A shortcut: often everything must leave, and that leaves with the newest event unless it weighs 0.
    if (this.before(size - 1) <= bound) return size - 1;
    return firstAbove(bound, this.#sums, head + 1, size - 1) - 1;
  }
}

/**
 * The first index from `from` to `to` of a number above `bound`. Requires that the numbers never decrease, and that the one
 * at `to` is above the bound. Gallops before it halves the interval, since most answers are near the start.
 */
export function firstAbove(bound: number, numbers: readonly number[], from: number, to: number): number {
  let low = from;
  let high = to;
  for (let step = 1; low + step <= to; step *= 2) {
    if ((numbers[low + step - 1] as number) > bound) {
      high = low + step - 1;
      break;
    }
    low += step;
  }
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((numbers[middle] as number) > bound) high = middle;
    else low = middle + 1;
  }
  return low;
}
