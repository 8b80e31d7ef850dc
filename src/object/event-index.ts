import { fnv1a } from "../core/fnv";
import { isInShadow } from "../core/identity";
import type { PagedEvent } from "./event";

/** An entry is two numbers of 32 bits: the hash of an id, and the serial number of its page. 0 is a free place. */
const NUMBERS_AN_ENTRY = 2;
/** The serial number of no page. */
const NO_PAGE = 0xffff_ffff;
const FEWEST_PLACES = 8;
/** The share of places that may be taken, so that a free place is near. */
const MOST_TAKEN = 0.7;

/**
 * Finds the pages of a key that may hold an event of an id. A hash table with open addressing: 8 bytes a place,
 * since the ids themselves would take too much memory. The caller must look at the page: two ids may share a hash, and an
 * event may have been removed since.
 *
 * Serial numbers of pages begin at 1, increase in the order of the pages' times, and are never used again. So entries of a
 * page that was overwritten match no page any more. They are dropped when the table is rebuilt.
 */
export class EventIndex {
  #entries = new Uint32Array(0);
  #taken = 0;
  #hasLive = false;
  #hasShadow = false;

  /** `exists` tells whether there still is a page of this serial number. */
  constructor(private readonly exists: (serial: number) => boolean) {}

  get weightBytes(): number {
    return this.#entries.byteLength;
  }

  /** False only if no event has this mode. */
  mayHaveMode(isShadow: boolean): boolean {
    return isShadow ? this.#hasShadow : this.#hasLive;
  }

  /** Adds an event of the newest page. */
  add(serial: number, { id, identity }: Pick<PagedEvent, "id" | "identity">): void {
    if (NUMBERS_AN_ENTRY * (this.#taken + 1) > MOST_TAKEN * this.#entries.length) this.#rebuild();
    this.#put(hashOf(id), serial);
    if (isInShadow(identity)) this.#hasShadow = true;
    else this.#hasLive = true;
  }

  /** The page holds no event of this id any more. Its entry stays until the table is rebuilt: others lie behind it. */
  remove(serial: number, id: string, left: readonly PagedEvent[]): void {
    if (this.#taken === 0) return;
    const hash = hashOf(id);
    // Another id may share the entry.
    if (left.some((event) => hashOf(event.id) === hash)) return;
    for (let i = this.#placeOf(hash); this.#serialAt(i) !== 0; i = this.#nextPlace(i))
      if (this.#entries[i] === hash && this.#serialAt(i) === serial) this.#entries[i + 1] = NO_PAGE;
  }

  /** The serial numbers of the pages that may hold an event of this id, the newest first. */
  serialsOf(id: string): number[] {
    if (this.#taken === 0) return [];
    const hash = hashOf(id);
    const serials: number[] = [];
    // Ends at a free place, and there always is one.
    for (let i = this.#placeOf(hash); this.#serialAt(i) !== 0; i = this.#nextPlace(i))
      if (this.#entries[i] === hash && this.#isInUse(this.#serialAt(i))) serials.push(this.#serialAt(i));
    return serials.sort((a, b) => b - a);
  }

  #put(hash: number, serial: number): void {
    let i = this.#placeOf(hash);
    // An id twice on one page is one entry.
    for (; this.#serialAt(i) !== 0; i = this.#nextPlace(i))
      if (this.#entries[i] === hash && this.#serialAt(i) === serial) return;
    this.#entries[i] = hash;
    this.#entries[i + 1] = serial;
    this.#taken++;
  }

  /** Drops entries of pages that are gone, and leaves at least half of the places free. */
  #rebuild(): void {
    const old = this.#entries;
    let live = 0;
    for (let i = 0; i < old.length; i += NUMBERS_AN_ENTRY) if (this.#isInUse(old[i + 1] as number)) live++;
    let places = FEWEST_PLACES;
    while (places < 2 * (live + 1)) places *= 2;
    this.#entries = new Uint32Array(NUMBERS_AN_ENTRY * places);
    this.#taken = 0;
    for (let i = 0; i < old.length; i += NUMBERS_AN_ENTRY) {
      const serial = old[i + 1] as number;
      if (this.#isInUse(serial)) this.#put(old[i] as number, serial);
    }
  }

  #isInUse(serial: number): boolean {
    return serial !== 0 && serial !== NO_PAGE && this.exists(serial);
  }

  #placeOf(hash: number): number {
    return NUMBERS_AN_ENTRY * (hash % (this.#entries.length / NUMBERS_AN_ENTRY));
  }

  #nextPlace(i: number): number {
    return (i + NUMBERS_AN_ENTRY) % this.#entries.length;
  }

  #serialAt(i: number): number {
    return this.#entries[i + 1] as number;
  }
}

/** Callers choose ids, and must not choose ids that meet in a table. Never stored. Drawn late: an isolate that starts may not. */
let seed: number | undefined;
let hashedId = "";
let hash = 0;

/** Every bit of the result depends on the whole id and on the seed. Each key of a decision asks for the hash of one id. */
function hashOf(id: string): number {
  if (id === hashedId) return hash;
  seed ??= crypto.getRandomValues(new Uint32Array(1))[0] as number;
  hash = fnv1a(id, seed);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash = (hash ^ (hash >>> 16)) >>> 0;
  hashedId = id;
  return hash;
}
