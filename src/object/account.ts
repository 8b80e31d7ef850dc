import type { Counter } from "../core/decide";
import type { Limit } from "../core/limit";
import { EventLog } from "../core/log";
import { type KeyOverride, overrideOf } from "../core/override";
import { overrideText, readOverride } from "./override";
import { Page, type PagedEvent, readPage } from "./page";
import type { Row } from "./page-table";
import type { StoredEvent } from "./protocol";
import { SlotIndex } from "./slot-index";
import type { PageStore } from "./store";

/** A page that is full: of no interest until it has expired, when its slot serves a new one. */
interface Sealed {
  readonly slot: number;
  expiresAtMs: number;
  readonly lastAtMs: number;
}

/** A counter of the key, and since when its events count. */
interface CounterSince {
  readonly policy: string;
  readonly layer: string;
  readonly sinceMs: number;
}

/**
 * One key: the logs of all its policies and layers, the pages of events that they are rebuilt from, and what overrides
 * its limits.
 *
 * An event charged to several layers of the key is stored once, and every change is to one page: one row written, or
 * less, since a page is written once however many changes it has had. A change that throws, or is not stored, leaves
 * this account unlike its rows; whoever holds it drops it and opens it anew.
 */
export class Account {
  /**
   * When the newest event was admitted: no decision about this key may be made at an earlier time. Also when that event was
   * put back since: its page may stand in the place of one that had expired by then, and would count again before.
   */
  readonly newestMs: number;
  readonly #logs = new Map<string, EventLog>();
  /** Of the events under way, by counter: made when a limit that counts them is first asked about. */
  readonly #underWay = new Map<string, EventLog>();
  readonly #sealed: Sealed[] = [];
  #tail: Page | undefined;
  /** As it is stored, also when it has ended. */
  #override: KeyOverride | undefined;
  /** Made when an id is first looked for beyond the tail: an account of one page never needs it. */
  #sealedIds: SlotIndex | undefined;
  /** Pages that differ from what is stored, by slot. */
  readonly #changed = new Map<number, Page>();

  constructor(
    private readonly store: PageStore,
    readonly key: string,
    private readonly pageChars: number,
  ) {
    const override = store.overrides.load(key);
    if (override) this.#override = readOverride(override.text, override.endsAtMs);
    let newestMs = 0;
    let last: { slot: number; events: PagedEvent[]; lastAtMs: number } | undefined;
    for (const { slot, expiresAtMs, lastAtMs, text } of store.pages(key)) {
      newestMs = Math.max(newestMs, lastAtMs);
      last = { slot, events: readPage(text), lastAtMs };
      for (const { atMs, cost, charged } of last.events)
        if (cost > 0) for (const layer of charged.layers) this.#log(charged.policy, layer).record(atMs, cost);
      this.#sealed.push({ slot, expiresAtMs, lastAtMs });
    }
    this.newestMs = newestMs;
    if (!last) return;
    this.#sealed.pop();
    this.#tail = Page.holding(last.slot, last.events, last.lastAtMs);
  }

  /** Nothing is stored about the key. */
  get isEmpty(): boolean {
    return this.#tail === undefined && this.#override === undefined;
  }

  /** About how many bytes of memory the account takes. */
  get weight(): number {
    let bytes = 1_000 + 2 * this.key.length + 2 * (this.#tail?.length ?? 0) + 50 * this.#sealed.length;
    for (const log of [...this.#logs.values(), ...this.#underWay.values()]) bytes += 500 + 24 * log.size;
    if (this.#override) bytes += 1_000 + 1_000 * (this.#override.layers?.length ?? 0);
    return bytes + (this.#sealedIds?.weight ?? 0);
  }

  /** The counter of a layer that has these limits of its own, as it is at `nowMs`. */
  counter(policy: string, layer: string, limits: readonly Limit[], nowMs: number): Counter {
    const log = this.#log(policy, layer);
    const inForce = this.overrideAt(nowMs);
    const override = inForce && overrideOf(inForce, policy, layer);
    const isCounted = [limits, override?.limits ?? []].flat().some(({ kind }) => kind === "concurrent");
    const underWay = isCounted ? this.#underWayLog(policy, layer) : this.#underWay.get(nameOf(policy, layer));
    return { log, underWay, limits, override };
  }

  /** The override in force at `nowMs`. */
  overrideAt(nowMs: number): KeyOverride | undefined {
    return this.#override && nowMs < this.#override.endsAtMs ? this.#override : undefined;
  }

  /** Puts an override in the place of the one that there is, and stores it; undefined lifts it. */
  setOverride(override: KeyOverride | undefined): void {
    if (override) this.store.overrides.put(this.key, { endsAtMs: override.endsAtMs, text: overrideText(override) });
    else this.store.overrides.delete(this.key);
    this.#override = override;
  }

  /** Writes down an event that the logs have recorded. */
  append(event: PagedEvent): void {
    if (this.#tail === undefined) this.#tail = new Page(this.#freeSlot(event.atMs));
    else if (this.#tail.length >= this.pageChars) this.#tail = this.#turned(this.#tail, event.atMs);
    this.#tail.append(event);
    this.#changed.set(this.#tail.slot, this.#tail);
  }

  /** The rows that store every change, one for each page that has one. From then on they are taken for stored. */
  takeChanges(): Row[] {
    const { key } = this;
    const rows = [...this.#changed.values()].map((page) => {
      const { slot, expiresAtMs, firstAtMs, lastAtMs } = page;
      return { key, slot, expiresAtMs, firstAtMs, lastAtMs, text: page.toText() };
    });
    this.#changed.clear();
    return rows;
  }

  /** The event that is named so, and still remembered at `nowMs`. */
  find(id: string, subject: string, nowMs: number): PagedEvent | undefined {
    const event = this.#locate(id, subject)?.event;
    return event && event.atMs + event.charged.keepMs > nowMs ? event : undefined;
  }

  /** Puts `event` in the place of the one that is named like it, in the logs and on its page; undefined takes it out. */
  replace({ id, subject }: Pick<PagedEvent, "id" | "subject">, event: PagedEvent | undefined): void {
    const located = this.#locate(id, subject);
    if (!located) return;
    const { slot, events, event: old } = located;
    const { policy, layers } = old.charged;
    for (const layer of layers) {
      this.#log(policy, layer).recost(old.atMs, old.cost, event?.cost ?? 0);
      this.#underWay
        .get(nameOf(policy, layer))
        ?.recost(old.atMs, old.released ? 0 : 1, !event || event.released ? 0 : 1);
    }
    const sealed = this.#sealed.find((other) => other.slot === slot);
    const page = Page.holding(
      slot,
      events.flatMap((other) => (other === old ? (event ?? []) : other)),
      (sealed ?? this.#tail)?.lastAtMs,
    );
    if (sealed) sealed.expiresAtMs = page.expiresAtMs;
    else this.#tail = page;
    this.#changed.set(slot, page);
  }

  /**
   * Of each counter, how many events are later than its `sinceMs`, and the newest of them, newest first. Read from what
   * is stored, all counters in one go: memory holds no ids.
   */
  events(asked: readonly CounterSince[], most: number): { total: number; events: StoredEvent[] }[] {
    const found = asked.map((counter) => ({ counter, total: 0, events: [] as StoredEvent[] }));
    for (const { text } of this.store.pages(this.key))
      for (const { id, atMs, cost, charged, admittedCost } of readPage(text))
        for (const one of found) {
          const { policy, layer, sinceMs } = one.counter;
          if (policy !== charged.policy || !charged.layers.includes(layer) || atMs <= sinceMs) continue;
          one.total += 1;
          one.events.push({ id, atMs, cost, ...(admittedCost !== cost && { admittedCost }) });
          if (one.events.length > 2 * most + 100) one.events.splice(0, one.events.length - most);
        }
    return found.map(({ total, events }) => ({ total, events: most > 0 ? events.slice(-most).reverse() : [] }));
  }

  #log(policy: string, layer: string): EventLog {
    const name = nameOf(policy, layer);
    const known = this.#logs.get(name);
    if (known) return known;
    const log = new EventLog();
    this.#logs.set(name, log);
    return log;
  }

  /** From the pages: what was settled at 0 is in no other log, and is under way all the same. */
  #underWayLog(policy: string, layer: string): EventLog {
    const name = nameOf(policy, layer);
    const known = this.#underWay.get(name);
    if (known) return known;
    const atMs: number[] = [];
    for (const { text } of this.#pages())
      for (const event of readPage(text)) {
        const { charged, released } = event;
        if (!released && charged.policy === policy && charged.layers.includes(layer)) atMs.push(event.atMs);
      }
    const log = new EventLog();
    // A page that has taken the slot of an expired one stands in that one's place until it is stored.
    for (const ms of atMs.sort((a, b) => a - b)) log.record(ms, 1);
    this.#underWay.set(name, log);
    return log;
  }

  #locate(id: string, subject: string): { slot: number; events: PagedEvent[]; event: PagedEvent } | undefined {
    for (const { slot, text } of this.#pagesThatMayHold(id, subject)) {
      const events = readPage(text);
      // The last: an id that was forgotten and used again may stand twice on a page.
      const event = events.findLast((event) => event.id === id && event.subject === subject);
      if (event) return { slot, events, event };
    }
    return undefined;
  }

  *#pagesThatMayHold(id: string, subject: string): Generator<{ slot: number; text: string }> {
    if (this.#tail?.mayHold(id)) yield { slot: this.#tail.slot, text: this.#tail.toText() };
    if (this.#sealed.length === 0) return;
    this.#sealedIds ??= SlotIndex.of(this.#pages());
    const slot = this.#sealedIds.slotOf(id, subject);
    if (slot === undefined) return;
    const text = this.#changed.get(slot)?.toText() ?? this.store.loadPage(this.key, slot);
    if (text !== undefined) yield { slot, text };
  }

  /** All pages as they will be stored, in their order: of an id that was used again the last event counts. */
  *#pages(): Generator<{ slot: number; text: string }> {
    const changed = new Map(this.#changed);
    for (const page of this.store.pages(this.key)) {
      yield { slot: page.slot, text: changed.get(page.slot)?.toText() ?? page.text };
      changed.delete(page.slot);
    }
    for (const page of changed.values()) yield { slot: page.slot, text: page.toText() };
  }

  /** The page to write on when the tail is full: the tail without what has expired or, if that is most of it, another. */
  #turned(tail: Page, nowMs: number): Page {
    const live = readPage(tail.toText()).filter((event) => event.atMs + event.charged.keepMs > nowMs);
    const compacted = Page.holding(tail.slot, live);
    if (compacted.length <= tail.length / 2) return compacted;
    const next = new Page(this.#freeSlot(nowMs));
    this.#sealed.push({ slot: tail.slot, expiresAtMs: tail.expiresAtMs, lastAtMs: tail.lastAtMs });
    for (const { id, subject } of live) this.#sealedIds?.add(id, subject, tail.slot);
    // Entries of slots that were used again pile up: rather than look for them, make the index anew when it is needed.
    if ((this.#sealedIds?.size ?? 0) > 1_000 + 100 * this.#sealed.length) this.#sealedIds = undefined;
    return next;
  }

  /** The slot of an expired page, which the next one overwrites so that nothing need be deleted, or a new slot. */
  #freeSlot(nowMs: number): number {
    // Of pages that begin and end in one millisecond the slot says the order.
    const least = this.#tail && this.#tail.firstAtMs === nowMs ? this.#tail.slot : -1;
    const expired = this.#sealed.findIndex(({ slot, expiresAtMs }) => slot > least && expiresAtMs <= nowMs);
    if (expired >= 0) return (this.#sealed.splice(expired, 1)[0] as Sealed).slot;
    return this.#sealed.reduce((highest, { slot }) => Math.max(highest, slot), this.#tail?.slot ?? -1) + 1;
  }
}

function nameOf(policy: string, layer: string): string {
  return `${policy}/${layer}`;
}
