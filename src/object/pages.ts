import { assert } from "../core/assert";
import { inOtherMode, isInShadow } from "../core/identity";
import { type Charged, type CountedEvent, isEventOf, isSameEvent, type PagedEvent } from "./event";
import { EventIndex } from "./event-index";
import { contentOf, Page, type PageContent, readPage, visitEvents } from "./page";
import type { PageChange, PageRow, PageStore } from "./page-store";
import { type SealedPage, SealedPages } from "./sealed-pages";

/**
 * An account that has just been read takes its tail for full at this share of the usual length. SQLite stores what goes beyond
 * 1,002 bytes of a row apart (https://www.sqlite.org/fileformat2.html, "Cell Payload Overflow Pages"), and a key that is read
 * before each decision would read and write both parts each time.
 */
const READ_PAGE_SHARE = 0.35;

/** The name of an event in a request. */
export interface EventName {
  readonly id: string;
  readonly identity: string;
  readonly policy: string;
  /** The request's counters of this key. */
  readonly counters: readonly { readonly layer: string }[];
}

/** An event, and the slot of its page. */
export interface Located {
  readonly slot: number;
  readonly event: PagedEvent;
}

/** The events and pages that are kept at one instant. */
export interface Retention {
  /** Whether an event that was admitted then, and charged so, is kept. If so, any later event that was charged so is kept too. */
  keeps(charged: Charged, atMs: number): boolean;
  /** An override spares the page, even if it has expired. */
  spares(page: { readonly lastAtMs: number }): boolean;
  readonly nowMs: number;
}

/**
 * The stored events of one key, on pages in the order of their times. New events go to the tail; all other pages are sealed.
 * A change affects one page, and a page is written once a turn, however many changes it has. If a change is not stored, the
 * pages differ from their rows: their holder must open them again.
 */
export class Pages {
  /**
   * When the newest event was admitted, even if it was removed since. Decisions about this key must not be made at an
   * earlier time: events that counted then may be gone, since a new page takes the slot of an expired one.
   */
  readonly newestMs: number;
  /** In the order of their times. */
  readonly #sealed = new SealedPages();
  /** The newest page. */
  #tail: Page | undefined;
  /** No event was appended since the pages were read. */
  #isTailRead = true;
  #tailSerial = 1;
  readonly #index = new EventIndex((serial) => serial === this.#tailSerial || this.#slotOf(serial) !== undefined);
  /** Pages that differ from their rows. Few: mostly the tail. */
  #changed: Page[] = [];

  constructor(
    private readonly store: PageStore,
    private readonly key: string,
    private readonly pageChars: number,
    /** The pages as they are stored, in their order. */
    stored: Iterable<PageRow>,
    /** Called with every stored event, in the order of their times. */
    onEvent: (event: CountedEvent) => void,
    private readonly retentionAt: (nowMs: number) => Retention,
  ) {
    let newestMs = 0;
    let previousAtMs = 0;
    let last: { row: PageRow; content: PageContent } | undefined;
    for (const row of stored) {
      if (last) this.#seal(last.row);
      const { firstAtMs, lastAtMs, text } = row;
      assert(firstAtMs >= previousAtMs, "a store gives the pages of a key in the order of their times");
      previousAtMs = firstAtMs;
      newestMs = Math.max(newestMs, lastAtMs);
      last = { row, content: contentOf(text) };
      visitEvents(last.content, (event) => {
        this.#index.add(this.#tailSerial, event);
        onEvent(event);
      });
    }
    this.newestMs = newestMs;
    if (last) this.#tail = Page.fromRow(last.row, last.content);
  }

  get isEmpty(): boolean {
    return this.#tail === undefined;
  }

  /** About how many bytes of memory the pages take. */
  get weightBytes(): number {
    return 2 * (this.#tail?.length ?? 0) + 50 * this.#sealed.size + this.#index.weightBytes;
  }

  /** `untilMs` is the instant from which the event is not kept any more. */
  append(event: PagedEvent, untilMs: number): void {
    const { atMs } = event;
    assert(atMs >= (this.#tail?.lastAtMs ?? 0), "a new event is not older than the events of its key");
    const page = this.#pageForNext(atMs);
    page.append(event, untilMs);
    this.#tail = page;
    this.#isTailRead = false;
    this.#markChanged(page);
    this.#index.add(this.#tailSerial, event);
    // Events of one instant are kept equally long, whatever their pages.
    if (this.#sealed.newestMs === atMs) this.#keepAsLongAs(page, atMs);
  }

  #keepAsLongAs(page: Page, atMs: number): void {
    for (const sealed of this.#sealed.newestFirst()) {
      if (sealed.lastAtMs !== atMs || sealed.expiresAtMs >= page.expiresAtMs) break;
      sealed.expiresAtMs = page.expiresAtMs;
      this.#rewrite(sealed.slot, this.#eventsOn(sealed.slot));
    }
  }

  /** False only if no event has this id. */
  mayHold(id: string): boolean {
    return this.#index.serialsOf(id).length > 0;
  }

  /**
   * The events of this name, the newest first. There may be several if the id was used again. Includes events of another
   * policy with exactly this identity: the caller takes them for a conflict.
   */
  find({ id, identity, policy }: EventName): Iterable<Located> {
    return this.#matching(id, (event) => event.identity === identity || isEventOf(event, policy, identity));
  }

  /** The events of this name in the other mode that were charged to one of its layers: that layer changed modes since. */
  findInOtherMode({ id, identity, policy, counters }: EventName): Iterable<Located> {
    if (!this.#index.mayHaveMode(!isInShadow(identity))) return [];
    const otherIdentity = inOtherMode(identity);
    const isCharged = ({ charged }: PagedEvent) => counters.some(({ layer }) => charged.layers.includes(layer));
    return this.#matching(id, (event) => isCharged(event) && isEventOf(event, policy, otherIdentity));
  }

  /** The events with exactly this identity, whatever their policy, the newest first. */
  findExactly(id: string, identity: string): Iterable<Located> {
    return this.#matching(id, (event) => event.identity === identity);
  }

  /** Replaces an event that is still there. Undefined removes it. */
  change({ slot, event }: Located, next: PagedEvent | undefined): void {
    const events = this.#eventsOn(slot);
    const i = events.findLastIndex((other) => isSameEvent(other, event));
    if (i < 0) return;
    if (next) events[i] = next;
    else events.splice(i, 1);
    this.#rewrite(slot, events);
    this.#index.remove(this.#serialOf(slot), event.id, events);
  }

  /** Every event, in the order of their times. */
  *events(): Generator<PagedEvent> {
    for (const { slot } of this.#sealed.oldestFirst()) yield* this.#eventsOn(slot);
    if (this.#tail) yield* this.#eventsOn(this.#tail.slot);
  }

  /** The rows that store all changes, one for each changed page. The pages then count them as stored. */
  takeChanges(): PageChange[] {
    const changes = this.#changed.map((page) => page.takeChange(this.key));
    this.#changed = [];
    return changes;
  }

  /** The events of an id that match, the newest first. */
  #matching(id: string, matches: (event: PagedEvent) => boolean): Iterable<Located> {
    const serials = this.#index.serialsOf(id);
    // Most ids are new to their key: no generator for them.
    return serials.length === 0 ? NONE : this.#matchingOn(serials, id, matches);
  }

  *#matchingOn(serials: readonly number[], id: string, matches: (event: PagedEvent) => boolean): Generator<Located> {
    const matchingOn = (slot: number) =>
      this.#eventsOn(slot)
        .filter((event) => event.id === id && matches(event))
        .map((event) => ({ slot, event }))
        .reverse();
    for (const serial of serials) {
      const slot = this.#slotOf(serial);
      if (slot !== undefined) yield* matchingOn(slot);
    }
  }

  #serialOf(slot: number): number {
    return slot === this.#tail?.slot ? this.#tailSerial : (this.#sealed.serialOf(slot) ?? 0);
  }

  /** The slot of a page, undefined if the page was overwritten. */
  #slotOf(serial: number): number | undefined {
    return serial === this.#tailSerial ? this.#tail?.slot : this.#sealed.slotOf(serial);
  }

  /** Seals the tail. The next tail has the next serial number. */
  #seal({ slot, expiresAtMs, lastAtMs }: Omit<SealedPage, "serial">): void {
    this.#sealed.add({ serial: this.#tailSerial++, slot, expiresAtMs, lastAtMs });
  }

  /**
   * The page for the next event: the tail. A full tail is compacted: events that are not kept are left out. If more than half
   * of it remains, it is sealed and a new page follows.
   */
  #pageForNext(nowMs: number): Page {
    const tail = this.#tail;
    if (!tail) return new Page(0, NEW_PAGE);
    if (tail.length < (this.#isTailRead ? READ_PAGE_SHARE : 1) * this.pageChars) return tail;
    const retention = this.retentionAt(nowMs);
    const isKept = tail.charged.every((charged) => retention.keeps(charged, tail.firstAtMs));
    const compacted = isKept ? undefined : this.#compacted(tail, retention);
    if (compacted) return compacted;
    const freeSlot = this.#takeFreeSlot(retention);
    this.#seal(tail);
    return new Page(freeSlot, NEW_PAGE);
  }

  /** The tail without the events that are not kept, if it loses at least half of its text. */
  #compacted(tail: Page, retention: Retention): Page | undefined {
    const kept = readPage(tail.toText()).filter(({ charged, atMs }) => retention.keeps(charged, atMs));
    const compacted = new Page(tail.slot, tail, kept);
    if (compacted.length > tail.length / 2) return undefined;
    // A new serial number, so that the index drops the events that are gone.
    this.#tailSerial++;
    for (const event of kept) this.#index.add(this.#tailSerial, event);
    return compacted;
  }

  /** The slot of an expired page, which the new page overwrites so that nothing is deleted. Otherwise an unused slot. */
  #takeFreeSlot({ nowMs, spares }: Retention): number {
    const tail = this.#tail;
    // Slots give the order of pages that begin and end in the same millisecond.
    const least = tail && tail.lastAtMs === nowMs ? tail.slot : -1;
    const expired = this.#sealed.takeExpired(nowMs, (page) => page.slot > least && !spares(page));
    return expired?.slot ?? Math.max(this.#sealed.highestSlot, tail?.slot ?? -1) + 1;
  }

  #rewrite(slot: number, events: readonly PagedEvent[]): void {
    const old = this.#sealed.find(slot) ?? this.#tail;
    assert(old !== undefined, "a page to rewrite is a page of this key");
    const page = new Page(slot, old, events);
    if (slot === this.#tail?.slot) this.#tail = page;
    this.#markChanged(page);
  }

  /** The page differs from its row from now on. It may take the place of another page that did. */
  #markChanged(page: Page): void {
    const i = this.#changed.findIndex(({ slot }) => slot === page.slot);
    if (i < 0) this.#changed.push(page);
    else this.#changed[i] = page;
  }

  #eventsOn(slot: number): PagedEvent[] {
    const page = slot === this.#tail?.slot ? this.#tail : this.#changed.find((page) => page.slot === slot);
    const text = page?.toText() ?? this.store.loadPage(this.key, slot);
    return text === undefined ? [] : readPage(text);
  }
}

const NONE: readonly Located[] = [];
const NEW_PAGE = { expiresAtMs: 0, lastAtMs: 0 };
