import { fnv1a } from "../core/fnv";

/**
 * The pages of a key that may hold an event of a name. Stores a number or two for each event, since the names would not
 * fit into memory. A name that was used again is on several pages. The caller must look: two names may share a number.
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
    const entry = this.#slots.get(number);
    const slots = slotsIn(entry);
    if (slots.at(-1) === slot) return;
    if (entry === undefined) this.#slots.set(number, slot);
    else if (typeof entry === "number") this.#slots.set(number, [entry, slot]);
    else entry.push(slot);
    this.#entries++;
  }

  remove(name: string, slot: number): void {
    const number = hash(name);
    const slots = slotsIn(this.#slots.get(number));
    const left = slots.filter((other) => other !== slot);
    this.#entries -= slots.length - left.length;
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

/** 53 bits of two hashes of the text. Of a million names, two share a number once in twenty thousand times. */
function hash(text: string): number {
  return fnv1a(text) * 2 ** 21 + (fnv1a(text, 0x01234567, 0x85ebca6b) >>> 11);
}
