import { costIn } from "../core/cost";
import type { LimitedLog } from "../core/decide";
import type { Limit } from "../core/limit";
import { type KeyOverride, type LayerLimits, type Override, overrideOf } from "../core/override";
import { EventLog } from "../core/sliding-window";
import { type CountedEvent, loggedIn, type PagedEvent } from "./event";
import { overrideFromText, overrideText, sparedFromMs, sparedUntilMs } from "./override-text";
import type { PageChange, PageRow, PageStore } from "./page-store";
import { type EventName, type Located, Pages, type Retention } from "./pages";
import type { StoredEvent } from "./protocol";

/** A counter of the key, and the longest window in which its events are wanted. */
interface CounterWindow {
  readonly policy: string;
  readonly layer: string;
  readonly windowMs: number;
}

/** A counter of the key that has admitted something. */
interface CounterLog {
  readonly policy: string;
  readonly layer: string;
  readonly log: EventLog;
}

/** The log of every counter that has admitted nothing. A question about such a counter leaves nothing in memory. */
const EMPTY_LOG = new EventLog();
/** How many logs an account may have before it looks for empty ones. */
const FEW_LOGS = 16;

/**
 * All counters of one key in one object: their logs, the pages of events that the logs are built from, and the key's
 * override. An event that was charged to several layers of the key is stored once.
 *
 * The logs follow from the stored events alone. So an account in memory decides as the same account read from storage
 * does. If a change throws or is not stored, the account differs from its rows: its holder must drop it and open it again.
 */
export class Account {
  #logs: CounterLog[] = [];
  /** How many logs were left when empty logs were last deleted. */
  #logsAfterDeletion = 0;
  readonly #pages: Pages;
  /** As stored, even if it has ended. */
  #override: KeyOverride | undefined;

  constructor(
    private readonly store: PageStore,
    readonly key: string,
    stored: Iterable<PageRow>,
    pageChars: number,
    private readonly clockMarginMs: number,
    /** How many events a counter holds at most. */
    private readonly mostEvents?: number,
  ) {
    const override = store.overrides.load(key);
    if (override) this.#override = overrideFromText(override.text, override.endsAtMs);
    this.#pages = new Pages(
      store,
      key,
      pageChars,
      stored,
      (event) => this.recordInLogs(event),
      (nowMs) => this.#retentionAt(nowMs),
    );
  }

  get isEmpty(): boolean {
    return this.#pages.isEmpty && this.#override === undefined;
  }

  /** Decisions about this key must not be made at an earlier time. */
  get newestMs(): number {
    return this.#pages.newestMs;
  }

  /** About how many bytes of memory the account takes. */
  get weightBytes(): number {
    let bytes = 1_000 + 2 * this.key.length + this.#pages.weightBytes;
    for (const { log } of this.#logs) bytes += log.weightBytes;
    if (this.#override) bytes += 1_000 + 1_000 * (this.#override.layers?.length ?? 0);
    return bytes;
  }

  /** The counter of a layer, with these limits of its own, as it is at `nowMs`. `cost` is in question. */
  counter(policy: string, layer: string, limits: readonly Limit[], cost: number, nowMs: number): LimitedLog {
    return { log: this.#logOf(policy, layer), limits, cost, override: this.#overrideOf(policy, layer, nowMs) };
  }

  /** The override in force at `nowMs`. */
  overrideAt(nowMs: number): KeyOverride | undefined {
    return this.#override && nowMs < this.#override.endsAtMs ? this.#override : undefined;
  }

  /**
   * Replaces the override and stores it. Events that a counter keeps at `nowMs` stay while the override is in force, as far
   * back as its windows reach.
   */
  setOverride(override: KeyOverride, nowMs: number): KeyOverride {
    const layers = override.layers?.map((layer): LayerLimits => {
      const keptFromMs = this.#keptFromMs(layer.policy, layer.layer, nowMs);
      return Number.isFinite(keptFromMs) ? { ...layer, keptFromMs } : layer;
    });
    this.#override = { ...override, ...(layers && { layers }) };
    this.store.overrides.put(this.key, { endsAtMs: override.endsAtMs, text: overrideText(this.#override) });
    return this.#override;
  }

  liftOverride(): void {
    this.store.overrides.delete(this.key);
    this.#override = undefined;
  }

  /** Records a new event in the counters that it is charged to, and stores it. */
  append(event: PagedEvent): void {
    const { atMs, charged } = event;
    this.recordInLogs(event);
    let untilMs = 0;
    for (const layer of charged.layers) {
      const log = this.#ownLogOf(charged.policy, layer);
      log.drop(atMs, this.#overrideOf(charged.policy, layer, atMs)?.keptFromMs);
      untilMs = Math.max(untilMs, log.untilMs);
    }
    this.#pages.append(event, untilMs);
    this.#deleteEmptyLogs(atMs);
  }

  /** False only if no event has this id. */
  mayHold(id: string): boolean {
    return this.#pages.mayHold(id);
  }

  /** The newest events of this name that match. Those of the other mode only if none of the same mode does. */
  findNewest(name: EventName, most: number, matches: (located: Located) => boolean): Located[] {
    const found = firstOf(this.#pages.find(name), most, matches);
    return found.length > 0 ? found : firstOf(this.#pages.findInOtherMode(name), most, matches);
  }

  /** All events of this name, in both modes. */
  findAll(name: EventName): Located[] {
    return [...this.#pages.find(name), ...this.#pages.findInOtherMode(name)];
  }

  /** The newest event with exactly this identity, whatever its policy. */
  findExactly(id: string, identity: string): Located | undefined {
    return firstOf(this.#pages.findExactly(id, identity), 1)[0];
  }

  /** Replaces an event, in the logs and in storage. Undefined removes it. */
  change(located: Located, next: PagedEvent | undefined): void {
    this.removeFromLogs(located.event);
    if (next) this.recordInLogs(next);
    this.#pages.change(located, next);
  }

  /** Removes an event from the logs only. A charge looks whether it fits without the event, and then records it again. */
  removeFromLogs(event: CountedEvent): void {
    const { policy, layers } = event.charged;
    for (const layer of layers) this.#logOf(policy, layer).remove(loggedIn(event, layer));
  }

  recordInLogs(event: CountedEvent): void {
    const { policy, layers } = event.charged;
    for (const layer of layers) this.#ownLogOf(policy, layer).record(loggedIn(event, layer));
  }

  /** The rows that store all changes, one for each changed page. The account then counts them as stored. */
  takeChanges(): PageChange[] {
    return this.#pages.takeChanges();
  }

  /**
   * For each counter: how many events count in its window, and the newest `most` of them, newest first. The logs hold no
   * ids, so this reads the pages, once for all counters.
   */
  events(counters: readonly CounterWindow[], most: number, nowMs: number): { total: number; events: StoredEvent[] }[] {
    const found = counters.map(({ policy, layer, windowMs }) => {
      const fromMs = Math.max(nowMs - windowMs + 1, this.#keptFromMs(policy, layer, nowMs));
      return { policy, layer, fromMs, total: 0, events: [] as StoredEvent[] };
    });
    for (const event of this.#pages.events())
      for (const counter of found) {
        const { id, atMs, charged } = event;
        const { policy, layer, fromMs, events } = counter;
        if (policy !== charged.policy || !charged.layers.includes(layer) || atMs < fromMs) continue;
        counter.total += 1;
        const { cost, released } = loggedIn(event, layer);
        const admittedCost = costIn(event.admittedCost, layer);
        events.push({ id, atMs, cost, ...(admittedCost !== cost && { admittedCost }), ...(released && { released }) });
        // Trims in bulk, so that an event is moved O(1) times.
        if (events.length > 2 * most + 100) events.splice(0, events.length - most);
      }
    return found.map(({ total, events }) => ({ total, events: most > 0 ? events.slice(-most).reverse() : [] }));
  }

  #logOf(policy: string, layer: string): EventLog {
    // Few: most keys have one or two counters.
    for (const counter of this.#logs) if (counter.layer === layer && counter.policy === policy) return counter.log;
    return EMPTY_LOG;
  }

  /** The log of a counter that has an event, or is about to have one. */
  #ownLogOf(policy: string, layer: string): EventLog {
    const existing = this.#logOf(policy, layer);
    if (existing !== EMPTY_LOG) return existing;
    const log = new EventLog(this.clockMarginMs, this.mostEvents);
    this.#logs = [...this.#logs, { policy, layer, log }];
    return log;
  }

  /** Callers name inline layers, so logs without events must not pile up. */
  #deleteEmptyLogs(nowMs: number): void {
    if (this.#logs.length <= 2 * this.#logsAfterDeletion + FEW_LOGS) return;
    this.#logs = this.#logs.filter(
      ({ policy, layer, log }) => log.size > 0 && Number.isFinite(this.#keptFromMs(policy, layer, nowMs)),
    );
    this.#logsAfterDeletion = this.#logs.length;
  }

  /** The instant from which a counter keeps events. Infinity if it keeps none. */
  #keptFromMs(policy: string, layer: string, nowMs: number): number {
    return this.#logOf(policy, layer).keptFromMs(nowMs, this.#overrideOf(policy, layer, nowMs)?.keptFromMs);
  }

  #overrideOf(policy: string, layer: string, nowMs: number): Override | undefined {
    const inForce = this.overrideAt(nowMs);
    const override = inForce && overrideOf(inForce, policy, layer);
    if (override?.keptFromMs === undefined) return override;
    return { ...override, keptFromMs: sparedFromMs(override.keptFromMs, override.limits ?? [], nowMs) };
  }

  #retentionAt(nowMs: number): Retention {
    return {
      nowMs,
      keeps: ({ policy, layers }, atMs) => layers.some((layer) => atMs >= this.#keptFromMs(policy, layer, nowMs)),
      spares: ({ lastAtMs }) => {
        const override = this.overrideAt(nowMs);
        return override !== undefined && sparedUntilMs(override, lastAtMs) > nowMs;
      },
    };
  }
}

function firstOf(found: Iterable<Located>, most: number, matches = (_: Located) => true): Located[] {
  const taken: Located[] = [];
  for (const located of found) if (matches(located) && taken.push(located) >= most) break;
  return taken;
}
