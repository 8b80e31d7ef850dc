import { EventLog } from "../core/log";
import { Page, type PagedEvent, readPage } from "./page";
import type { StoredEvent } from "./protocol";
import type { Store } from "./store";

/** A page that is full: of no interest until it has expired, when its slot serves a new one. */
interface Sealed {
  readonly slot: number;
  expiresAtMs: number;
}

/**
 * One key: the logs of all its policies and layers, and the pages of events that they are rebuilt from.
 *
 * An event charged to several layers of the key is stored once, and every change rewrites one page: one row written.
 * A change that throws leaves this account unlike its rows; whoever holds it drops it and opens it anew.
 */
export class Account {
  /** When the newest event was admitted: no decision about this key may be made at an earlier time. */
  readonly newestMs: number;
  readonly #logs = new Map<string, EventLog>();
  readonly #sealed: Sealed[];
  #tail: Page | undefined;

  constructor(
    private readonly store: Store,
    readonly key: string,
  ) {
    const pages = loadPages(store, key);
    for (const { events } of pages)
      for (const { atMs, cost, charged } of events)
        for (const layer of charged.layers) this.log(charged.policy, layer).record(atMs, cost);
    this.newestMs = pages.at(-1)?.events.at(-1)?.atMs ?? 0;
    const last = pages.pop();
    if (last) this.#tail = Page.holding(last.slot, last.events);
    this.#sealed = pages.map(({ slot, expiresAtMs }) => ({ slot, expiresAtMs }));
  }

  /** Nothing is stored about the key. */
  get isEmpty(): boolean {
    return this.#tail === undefined;
  }

  /** About how many bytes of memory the account takes. */
  get weight(): number {
    let bytes = 1_000 + 2 * this.key.length + 2 * (this.#tail?.length ?? 0) + 50 * this.#sealed.length;
    for (const log of this.#logs.values()) bytes += 500 + 24 * log.size;
    return bytes;
  }

  log(policy: string, layer: string): EventLog {
    const name = `${policy}/${layer}`;
    const known = this.#logs.get(name);
    if (known) return known;
    const log = new EventLog();
    this.#logs.set(name, log);
    return log;
  }

  /** Stores an event that the logs have recorded. */
  append(event: PagedEvent): void {
    if (this.#tail === undefined) this.#tail = new Page(this.#freeSlot(event.atMs), event.atMs);
    else if (this.#tail.isFull) this.#tail = this.#turned(this.#tail, event.atMs);
    this.#tail.append(event);
    this.#put(this.#tail);
  }

  /** Takes an event out of the logs and out of the store, as if it had never been; nothing if there is none. */
  takeBack(id: string): void {
    for (const { slot, text } of this.#pagesTailFirst()) {
      const events = readPage(text);
      const event = events.find((event) => event.id === id);
      if (!event) continue;
      for (const layer of event.charged.layers) this.log(event.charged.policy, layer).remove(event.atMs, event.cost);
      const page = Page.holding(
        slot,
        events.filter((other) => other !== event),
      );
      const sealed = this.#sealed.find((other) => other.slot === slot);
      if (sealed) sealed.expiresAtMs = page.expiresAtMs;
      else this.#tail = page;
      this.#put(page);
      return;
    }
  }

  /** The events of a counter after `sinceMs`, newest first: read from the store, since memory holds no ids. */
  events(policy: string, layer: string, sinceMs: number): StoredEvent[] {
    return loadPages(this.store, this.key)
      .flatMap((page) => page.events)
      .filter(({ atMs, charged }) => charged.policy === policy && charged.layers.includes(layer) && atMs > sinceMs)
      .map(({ id, atMs, cost }) => ({ id, atMs, cost }))
      .reverse();
  }

  *#pagesTailFirst(): Generator<{ slot: number; text: string }> {
    if (this.#tail) yield { slot: this.#tail.slot, text: this.#tail.toText() };
    yield* this.store.load(this.key);
  }

  /** The page to write on when the tail is full: the tail without what has expired or, if that is most of it, another. */
  #turned(tail: Page, nowMs: number): Page {
    const live = readPage(tail.toText()).filter((event) => event.atMs + event.charged.keepMs > nowMs);
    const compacted = Page.holding(tail.slot, live);
    if (compacted.length <= tail.length / 2) return compacted;
    const next = new Page(this.#freeSlot(nowMs), nowMs);
    this.#sealed.push({ slot: tail.slot, expiresAtMs: tail.expiresAtMs });
    return next;
  }

  /** The slot of an expired page, which the next one overwrites so that nothing need be deleted, or a new slot. */
  #freeSlot(nowMs: number): number {
    const expired = this.#sealed.findIndex((page) => page.expiresAtMs <= nowMs);
    if (expired >= 0) return (this.#sealed.splice(expired, 1)[0] as Sealed).slot;
    return this.#sealed.reduce((highest, { slot }) => Math.max(highest, slot), this.#tail?.slot ?? -1) + 1;
  }

  #put(page: Page): void {
    this.store.put({ key: this.key, slot: page.slot, expiresAtMs: page.expiresAtMs, text: page.toText() });
  }
}

/** The pages of a key with their events, all in the order of admission. */
function loadPages(store: Store, key: string) {
  const pages = store.load(key).map(({ slot, expiresAtMs, text }) => ({ slot, expiresAtMs, events: readPage(text) }));
  return pages.sort((a, b) => (a.events[0]?.atMs ?? 0) - (b.events[0]?.atMs ?? 0));
}
