import { readPage } from "./page";

/**
 * Which page of a key may hold an event, by the event's id and subject: two numbers an event, where the names themselves
 * would not fit into memory. A slot that was used again leaves its old entries behind, so whoever asks must look.
 */
export class SlotIndex {
  readonly #slots = new Map<number, number>();

  static of(pages: Iterable<{ slot: number; text: string }>): SlotIndex {
    const index = new SlotIndex();
    for (const { slot, text } of pages) for (const { id, subject } of readPage(text)) index.add(id, subject, slot);
    return index;
  }

  /** About how many bytes of memory it takes. */
  get weight(): number {
    return 50 * this.#slots.size;
  }

  get size(): number {
    return this.#slots.size;
  }

  add(id: string, subject: string, slot: number): void {
    this.#slots.set(hash(`${id} ${subject}`), slot);
  }

  slotOf(id: string, subject: string): number | undefined {
    return this.#slots.get(hash(`${id} ${subject}`));
  }
}

/**
 * 53 bits: two of a million ids are the same once in twenty thousand times. The high part is FNV-1a; the
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
