/** How often an item was counted: at most `count` times, and at least `count - error` times. */
export interface Estimate {
  readonly item: string;
  readonly count: number;
  readonly error: number;
}

interface ItemCounter {
  count: number;
  error: number;
}

/**
 * The items counted most often, in bounded memory: the Space-Saving algorithm of "Efficient Computation of Frequent and
 * Top-k Elements in Data Streams" by Metwally, Agrawal and El Abbadi. A new item that finds no room replaces the rarest
 * item and takes over its count. So no count is too low, and the sum of all counts is not above the number of
 * additions.
 *
 * Hence the bound. After `n` additions no count is too high by more than `n / capacity`, and no item that is left out
 * was counted more often than that. Merging sketches of the same capacity keeps the bound: an item that a sketch lacks
 * counts as its rarest.
 */
export class SpaceSaving {
  #counters = new Map<string, ItemCounter>();

  constructor(
    readonly capacity: number,
    estimates: readonly Estimate[] = [],
  ) {
    for (const { item, count, error } of estimates) this.#counters.set(item, { count, error });
  }

  /** No count is too high by more, and no item that is left out was counted more often. */
  get errorAtMost(): number {
    return this.#counters.size < this.capacity ? 0 : (this.#rarest()?.[1].count ?? 0);
  }

  add(item: string): void {
    const counter = this.#counters.get(item);
    if (counter) {
      counter.count += 1;
      return;
    }
    let error = 0;
    const rarest = this.#counters.size < this.capacity ? undefined : this.#rarest();
    if (rarest) {
      this.#counters.delete(rarest[0]);
      error = rarest[1].count;
    }
    this.#counters.set(item, { count: error + 1, error });
  }

  /** Adds the counts of another sketch. */
  merge(other: SpaceSaving): void {
    const [own, others] = [this.errorAtMost, other.errorAtMost];
    const merged = new Map<string, ItemCounter>();
    for (const item of new Set([...this.#counters.keys(), ...other.#counters.keys()])) {
      const a = this.#counters.get(item) ?? { count: own, error: own };
      const b = other.#counters.get(item) ?? { count: others, error: others };
      merged.set(item, { count: a.count + b.count, error: a.error + b.error });
    }
    this.#counters = new Map([...merged].sort(([, a], [, b]) => b.count - a.count).slice(0, this.capacity));
  }

  /** The items, most frequent first. */
  estimates(): Estimate[] {
    return [...this.#counters]
      .map(([item, { count, error }]) => ({ item, count, error }))
      .sort((a, b) => b.count - a.count);
  }

  #rarest(): [string, ItemCounter] | undefined {
    let rarest: [string, ItemCounter] | undefined;
    for (const entry of this.#counters) if (!rarest || entry[1].count < rarest[1].count) rarest = entry;
    return rarest;
  }
}
