/**
 * On which pages of a key an event may be, by its name: a number or two an event, where the names themselves would not fit
 * into memory. A name that was used again is on several pages. Whoever asks must look: two names may share a number.
 */
export class IdIndex {
  /** A slot, or several with the newest last. */
  readonly #slots = new Map<number, number | number[]>();
  #entries = 0;

  /** About how many bytes of memory it takes. */
  get weightBytes(): number {
    return 50 * this.#slots.size + 20 * this.#entries;
  }

  /** `slot` is that of the newest page that holds the name. */
  add(name: string, slot: number): void {
    const number = hash(name);
    const known = this.#slots.get(number);
    const slots = slotsIn(known);
    if (slots.at(-1) === slot) return;
    if (known === undefined) this.#slots.set(number, slot);
    else if (typeof known === "number") this.#slots.set(number, [known, slot]);
    else known.push(slot);
    this.#entries++;
  }

  remove(name: string, slot: number): void {
    const number = hash(name);
    const known = slotsIn(this.#slots.get(number));
    const left = known.filter((other) => other !== slot);
    this.#entries -= known.length - left.length;
    if (left.length === 0) this.#slots.delete(number);
    else this.#slots.set(number, left.length === 1 ? (left[0] as number) : left);
  }

  /** The slots that may hold an event of this name, the newest first. */
  slotsOf(name: string): readonly number[] {
    return slotsIn(this.#slots.get(hash(name))).toReversed();
  }
}

function slotsIn(slots: number | readonly number[] | undefined): readonly number[] {
  if (slots === undefined) return [];
  return typeof slots === "number" ? [slots] : slots;
}

/**
 * 53 bits: two of a million names are the same once in twenty thousand times. The high part is FNV-1a; the
 * low one takes its steps from another offset and by another multiplier, so that texts which share one differ in the other.
 */
function hash(text: string): number {
  let high = 0x811c9dc5;
  let low = 0x01234567;
  for (let i = 0; i < text.length; i++) {
    high = Math.imul(high ^ text.charCodeAt(i), 0x01000193);
    low = Math.imul(low ^ text.charCodeAt(i), 0x85ebca6b);
  }
  return (high >>> 0) * 2 ** 21 + (low >>> 11);
}
