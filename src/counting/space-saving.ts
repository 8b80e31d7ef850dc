/** How often an item was counted: at most `count` times, and at least `count - error`. */
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
 * The items counted most often, in bounded memory: Space-Saving, of "Efficient Computation of Frequent and Top-k Elements
 * in Data Streams" by Metwally, Agrawal and El Abbadi. An item that finds no room takes the place of the rarest, and its
 * count with it, so that counts are never too low, and all of them together are never more than what was counted.
 *
 * Hence the bound: of `n` counted in all, no count is too high by more than `n / capacity`, no item that is left out was
 * counted more often than that, and none that was is left out. It holds however many sketches were merged, when they
 * have the same capacity: what a sketch does not have, it may have counted as often as its rarest.
 */
export class SpaceSaving {
  #counters = new Map<string, ItemCounter>();

  constructor(
    readonly capacity: number,
    estimates: readonly Estimate[] = [],
  ) {
    for (const { item, count, error } of estimates) this.#counters.set(item, { count, error });
  }

  /** No count is too high by more, and nothing that is left out was counted more often. */
  get errorAtMost(): number {
    return this.#counters.size < this.capacity ? 0 : (this.#rarest()?.[1].count ?? 0);
  }

  add(item: string): void {
    const known = this.#counters.get(item);
    if (known) {
      known.count += 1;
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

  /** Counts all that the other one has counted, too. */
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

  /** The most frequent first. */
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
