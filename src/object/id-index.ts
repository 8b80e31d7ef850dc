import { fnv1a } from "../core/fnv";

/**
 * The pages of a key that may hold an event of a name. Stores a hash for each name, since the names themselves would take
 * too much memory. A name that was used again is on several pages. The caller must look: two names may share a hash.
 */
export class IdIndex {
  /** By hash: a slot, or several with the newest last. */
  readonly #slots = new Map<number, number | number[]>();
  #entries = 0;

  /** About how many bytes of memory it takes. */
  get weightBytes(): number {
    return 50 * this.#slots.size + 20 * this.#entries;
  }

  /** Adds a name that is on the page `slot`, which is newer than all pages that hold the name so far. */
  add(name: string, slot: number): void {
    const hash = hashOf(name);
    const entry = this.#slots.get(hash);
    const slots = slotsIn(entry);
    if (slots.at(-1) === slot) return;
    if (entry === undefined) this.#slots.set(hash, slot);
    else if (typeof entry === "number") this.#slots.set(hash, [entry, slot]);
    else entry.push(slot);
    this.#entries++;
  }

  remove(name: string, slot: number): void {
    const hash = hashOf(name);
    const slots = slotsIn(this.#slots.get(hash));
    const left = slots.filter((other) => other !== slot);
    this.#entries -= slots.length - left.length;
    if (left.length === 0) this.#slots.delete(hash);
    else this.#slots.set(hash, left.length === 1 ? (left[0] as number) : left);
  }

  /** The slots that may hold an event of this name, the newest first. */
  slotsOf(name: string): readonly number[] {
    return slotsIn(this.#slots.get(hashOf(name))).toReversed();
  }
}

function slotsIn(slots: number | readonly number[] | undefined): readonly number[] {
  if (slots === undefined) return [];
  return typeof slots === "number" ? [slots] : slots;
}

/** 53 bits of two hashes. A million names have a collision with a probability of 1 in 20,000. */
function hashOf(text: string): number {
  return fnv1a(text) * 2 ** 21 + (fnv1a(text, 0x01234567, 0x85ebca6b) >>> 11);
}
