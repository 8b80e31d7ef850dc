import { inOtherMode, isInShadow, isSameSubject } from "../core/identity";
import { EventIndex, nameOf } from "./event-index";
import { Page, type PagedEvent, readPage } from "./page";
import type { PageRow, PageStore } from "./page-store";

/** A page that is full: of no interest until it has expired, when its slot serves a new one. */
interface Sealed {
  readonly slot: number;
  expiresAtMs: number;
  readonly lastAtMs: number;
}

/** How a question names an event. */
export interface EventName {
  readonly id: string;
  readonly identity: string;
  readonly policy: string;
  /** Those of the key at hand that are asked about. */
  readonly counters: readonly { readonly layer: string }[];
}

/** An event, and the slot of its page. */
export interface Located {
  readonly slot: number;
  readonly event: PagedEvent;
}

/** What is kept at the instant of a change. */
export interface Retention {
  keeps(event: PagedEvent): boolean;
  /** An override spares a page beyond its expiry. */
  spares(page: { readonly lastAtMs: number }): boolean;
  readonly nowMs: number;
}

/**
 * The stored events of one key, on pages in the order of their times. Every change is to one page: one row written, or less,
 * since a page is written once however many changes it has had. A change that is not stored leaves these pages unlike
 * their rows; whoever holds them opens them anew.
 */
export class Pages {
  /**
   * When the newest event was admitted: no decision about this key may be made at an earlier time. Also when that event was
   * taken out since: its page may stand in the place of one that had expired by then, and would count again before.
   */
  readonly newestMs: number;
  /** In the order of their times. */
  readonly #sealed: Sealed[] = [];
  #tail: Page | undefined;
  readonly #index = new EventIndex(() => this.#sealedEvents());
  /** Pages that differ from what is stored, by slot. */
  readonly #changed = new Map<number, Page>();

  constructor(
    private readonly store: PageStore,
    private readonly key: string,
    private readonly pageChars: number,
    /** Is told of every event that is stored, in the order of their times. */
    told: (event: PagedEvent) => void,
  ) {
    let newestMs = 0;
    let events: PagedEvent[] = [];
    for (const { slot, expiresAtMs, lastAtMs, text } of store.pages(key)) {
      newestMs = Math.max(newestMs, lastAtMs);
      events = readPage(text);
      for (const event of events) {
        this.#index.note(event);
        told(event);
      }
      this.#sealed.push({ slot, expiresAtMs, lastAtMs });
    }
    this.newestMs = newestMs;
    const last = this.#sealed.pop();
    if (last) this.#tail = new Page(last.slot, last, events);
  }

  get isEmpty(): boolean {
    return this.#tail === undefined;
  }

  /** About how many bytes of memory they take. */
  get weightBytes(): number {
    return 2 * (this.#tail?.length ?? 0) + 50 * this.#sealed.length + this.#index.weightBytes;
  }

  /** `untilMs`: from then on the event is not kept any more. */
  append(event: PagedEvent, untilMs: number, retention: Retention): void {
    const { atMs } = event;
    const page = this.#pageFor(retention);
    page.append(event, untilMs);
    this.#tail = page;
    this.#changed.set(page.slot, page);
    this.#index.note(event);
    // Events of one instant are kept alike, on whichever pages they are.
    for (let i = this.#sealed.length - 1; i >= 0; i--) {
      const sealed = this.#sealed[i] as Sealed;
      if (sealed.lastAtMs !== atMs || sealed.expiresAtMs >= page.expiresAtMs) break;
      sealed.expiresAtMs = page.expiresAtMs;
      this.#rewrite(sealed.slot, this.#eventsOn(sealed.slot));
    }
  }

  /** The events that are named so, the newest first: several where an id was used again, or charged anew beside an old event. */
  find({ id, identity, policy }: EventName): Iterable<Located> {
    // One of the very same subject by another policy is a conflict, which the caller sees.
    return this.#matching(
      id,
      () => this.#index.slotsOf(id, identity, policy),
      (event) => event.identity === identity || isEventOf(event, policy, identity),
    );
  }

  /** The same of the other mode, if they were charged to a layer asked about: that layer has changed modes since. */
  findInOtherMode({ id, identity, policy, counters }: EventName): Iterable<Located> {
    if (!this.#index.mayHaveMode(!isInShadow(identity))) return [];
    const other = inOtherMode(identity);
    const isAsked = ({ charged }: PagedEvent) => counters.some(({ layer }) => charged.layers.includes(layer));
    return this.#matching(
      id,
      () => this.#index.slotsOf(id, other, policy),
      (event) => isAsked(event) && isEventOf(event, policy, other),
    );
  }

  /** The events of this very identity, whatever their policy, the newest first. */
  findExactly(id: string, identity: string): Iterable<Located> {
    return this.#matching(
      id,
      () => this.#index.slotsNamed(id, identity),
      (event) => event.identity === identity,
    );
  }

  /** Puts `next` in the place of an event that is here; undefined takes it out. */
  change({ slot, event }: Located, next: PagedEvent | undefined): void {
    const events = this.#eventsOn(slot);
    const i = events.findLastIndex((other) => isSameEvent(other, event));
    if (i < 0) return;
    if (next) events[i] = next;
    else events.splice(i, 1);
    this.#rewrite(slot, events);
    if (slot !== this.#tail?.slot) this.#index.remove({ slot, events: [event] }, events);
  }

  /** Every event, in the order of their times. */
  *events(): Generator<PagedEvent> {
    for (const { events } of this.#sealedEvents()) yield* events;
    if (this.#tail) yield* this.#eventsOn(this.#tail.slot);
  }

  /** The rows that store every change, one for each page that has one. From then on they are taken for stored. */
  takeChanges(): PageRow[] {
    const { key } = this;
    const rows = [...this.#changed.values()].map((page) => {
      const { slot, expiresAtMs, firstAtMs, lastAtMs } = page;
      return { key, slot, expiresAtMs, firstAtMs, lastAtMs, text: page.toText() };
    });
    this.#changed.clear();
    return rows;
  }

  #matching(id: string, slotsOf: () => readonly number[], isMeant: (event: PagedEvent) => boolean): Iterable<Located> {
    const isInTail = this.#tail?.mayHold(id) === true;
    // Most ids are new to their key.
    if (!isInTail && this.#sealed.length === 0) return [];
    return this.#matchingOn(isInTail, id, slotsOf, isMeant);
  }

  *#matchingOn(
    isInTail: boolean,
    id: string,
    slotsOf: () => readonly number[],
    isMeant: (event: PagedEvent) => boolean,
  ): Generator<Located> {
    const on = (slot: number) =>
      this.#eventsOn(slot)
        .filter((event) => event.id === id && isMeant(event))
        .map((event) => ({ slot, event }))
        .reverse();
    if (this.#tail && isInTail) yield* on(this.#tail.slot);
    if (this.#sealed.length > 0) for (const slot of slotsOf()) yield* on(slot);
  }

  *#sealedEvents(): Generator<{ slot: number; events: PagedEvent[] }> {
    for (const { slot } of this.#sealed) yield { slot, events: this.#eventsOn(slot) };
  }

  /** The page to write on: the tail or, when that is full, the tail without what is not kept or, if it all is, another. */
  #pageFor(retention: Retention): Page {
    const tail = this.#tail;
    if (!tail) return new Page(0, NEW_PAGE);
    if (tail.length < this.pageChars) return tail;
    const events = readPage(tail.toText());
    const { slot, expiresAtMs, lastAtMs } = tail;
    const compacted = new Page(
      slot,
      tail,
      events.filter((event) => retention.keeps(event)),
    );
    if (compacted.length <= tail.length / 2) return compacted;
    const free = this.#freeSlot(retention);
    this.#sealed.push({ slot, expiresAtMs, lastAtMs });
    this.#index.add({ slot, events });
    return new Page(free, NEW_PAGE);
  }

  /** The slot of an expired page, which the next one overwrites so that nothing need be deleted, or a new slot. */
  #freeSlot({ nowMs, spares }: Retention): number {
    // The slot says the order of pages that begin and end in one millisecond.
    const least = this.#tail && this.#tail.firstAtMs === nowMs ? this.#tail.slot : -1;
    const expired = this.#sealed.findIndex((page) => page.slot > least && page.expiresAtMs <= nowMs && !spares(page));
    if (expired < 0)
      return this.#sealed.reduce((highest, { slot }) => Math.max(highest, slot), this.#tail?.slot ?? -1) + 1;
    const { slot } = this.#sealed[expired] as Sealed;
    if (this.#index.isMade) this.#index.remove({ slot, events: this.#eventsOn(slot) });
    this.#sealed.splice(expired, 1);
    return slot;
  }

  #rewrite(slot: number, events: readonly PagedEvent[]): void {
    const old = this.#sealed.find((sealed) => sealed.slot === slot) ?? this.#tail;
    if (!old) throw new Error("the page to rewrite is not one of this key's pages");
    const page = new Page(slot, old, events);
    if (slot === this.#tail?.slot) this.#tail = page;
    this.#changed.set(slot, page);
  }

  #eventsOn(slot: number): PagedEvent[] {
    const page = slot === this.#tail?.slot ? this.#tail : this.#changed.get(slot);
    const text = page?.toText() ?? this.store.loadPage(this.key, slot);
    return text === undefined ? [] : readPage(text);
  }
}

const NEW_PAGE = { expiresAtMs: 0, lastAtMs: 0 };

function isEventOf({ charged, identity }: PagedEvent, policy: string, asked: string): boolean {
  return charged.policy === policy && isSameSubject(identity, asked);
}

/** In one millisecond an id may be charged twice: the attempt that recorded an event tells it from others. */
function isSameEvent(one: PagedEvent, other: PagedEvent): boolean {
  return (
    one.atMs === other.atMs && nameOf(one) === nameOf(other) && one.claims[0]?.attempt === other.claims[0]?.attempt
  );
}
