import type { LimitedLog } from "../core/decide";
import type { Limit } from "../core/limit";
import { type KeyOverride, type LayerLimits, type Override, overrideOf } from "../core/override";
import { EventLog } from "../core/sliding-window";
import { overrideFromText, overrideText, sparedFromMs, sparedUntilMs } from "./override-text";
import type { PagedEvent } from "./page";
import type { PageRow, PageStore } from "./page-store";
import { type EventName, type Located, Pages, type Retention } from "./pages";
import type { StoredEvent } from "./protocol";

/** A counter of the key, and the longest window that is looked through. */
interface CounterWindow {
  readonly policy: string;
  readonly layer: string;
  readonly windowMs: number;
}

/** Counters that have admitted nothing: to ask about one leaves nothing in memory. */
const NOTHING = new EventLog();
/** So many logs are nothing to look through. */
const FEW_LOGS = 16;

/**
 * One key: the logs of all its policies and layers, the pages of events that they are rebuilt from, and what overrides
 * its limits. An event charged to several layers of the key is stored once.
 *
 * What the logs say follows from the stored events alone: an account in memory and the same account read back from
 * storage decide and tell the same. A change that throws, or is not stored, leaves this account unlike its rows; whoever
 * holds it drops it and opens it anew.
 */
export class Account {
  readonly #logs = new Map<string, EventLog>();
  /** So many logs there were when those were last deleted that keep nothing. */
  #logsKept = 0;
  readonly #pages: Pages;
  /** As it is stored, also when it has ended. */
  #override: KeyOverride | undefined;

  constructor(
    private readonly store: PageStore,
    readonly key: string,
    pageChars: number,
  ) {
    const override = store.overrides.load(key);
    if (override) this.#override = overrideFromText(override.text, override.endsAtMs);
    this.#pages = new Pages(store, key, pageChars, (event) => this.recordInLogs(event));
  }

  /** Nothing is stored about the key. */
  get isEmpty(): boolean {
    return this.#pages.isEmpty && this.#override === undefined;
  }

  /** No decision about this key may be made at an earlier time. */
  get newestMs(): number {
    return this.#pages.newestMs;
  }

  /** About how many bytes of memory the account takes. */
  get weightBytes(): number {
    let bytes = 1_000 + 2 * this.key.length + this.#pages.weightBytes;
    for (const log of this.#logs.values()) bytes += 500 + 40 * log.size;
    if (this.#override) bytes += 1_000 + 1_000 * (this.#override.layers?.length ?? 0);
    return bytes;
  }

  /** The counter of a layer that has these limits of its own, as it is at `nowMs`. */
  counter(policy: string, layer: string, limits: readonly Limit[], nowMs: number): LimitedLog {
    const log = this.#logs.get(nameOf(policy, layer)) ?? NOTHING;
    return { log, limits, override: this.#overrideOf(policy, layer, nowMs) };
  }

  /** The override in force at `nowMs`. */
  overrideAt(nowMs: number): KeyOverride | undefined {
    return this.#override && nowMs < this.#override.endsAtMs ? this.#override : undefined;
  }

  /**
   * Puts an override in the place of the one that there is, and stores it. What a counter keeps at `nowMs` it goes on to keep,
   * for as long as the override is in force and its windows reach.
   */
  setOverride(override: KeyOverride, nowMs: number): KeyOverride {
    const layers = override.layers?.map((one): LayerLimits => {
      const keptFromMs = this.#keptFromMs(one.policy, one.layer, nowMs);
      return Number.isFinite(keptFromMs) ? { ...one, keptFromMs } : one;
    });
    this.#override = { ...override, ...(layers && { layers }) };
    this.store.overrides.put(this.key, { endsAtMs: override.endsAtMs, text: overrideText(this.#override) });
    return this.#override;
  }

  lift(): void {
    this.store.overrides.delete(this.key);
    this.#override = undefined;
  }

  /** Records an event in the counters that it is charged to, and stores it. */
  append(event: PagedEvent): void {
    const { atMs, charged } = event;
    this.recordInLogs(event);
    let untilMs = 0;
    for (const layer of charged.layers) {
      const log = this.#log(charged.policy, layer);
      log.drop(atMs, this.#overrideOf(charged.policy, layer, atMs)?.keptFromMs);
      untilMs = Math.max(untilMs, log.untilMs);
    }
    this.#pages.append(event, untilMs, this.#retentionAt(atMs));
    this.#deleteEmptyLogs(atMs);
  }

  /** The newest events that are named so, however old: of the same mode, or else of layers that have changed modes. */
  findNewest(name: EventName, most: number): Located[] {
    const found = first(this.#pages.find(name), most);
    return found.length > 0 ? found : first(this.#pages.findInOtherMode(name), most);
  }

  /** All events that are named so, of layers that have changed modes too. */
  findAll(name: EventName): Located[] {
    return [...this.#pages.find(name), ...this.#pages.findInOtherMode(name)];
  }

  /** The newest event of this very identity, whatever its policy. */
  findExactly(id: string, identity: string): Located | undefined {
    return first(this.#pages.findExactly(id, identity), 1)[0];
  }

  /** Puts `next` in the place of an event, in the logs and where it is stored; undefined takes it out. */
  change(located: Located, next: PagedEvent | undefined): void {
    this.removeFromLogs(located.event);
    if (next) this.recordInLogs(next);
    this.#pages.change(located, next);
  }

  /** Takes an event out of the counters and leaves it where it is stored, to see how they stand without it. */
  removeFromLogs(event: PagedEvent): void {
    const { charged, ...logged } = event;
    for (const layer of charged.layers)
      this.#logs.get(nameOf(charged.policy, layer))?.remove({ ...logged, retainMs: charged.retainMs });
  }

  recordInLogs(event: PagedEvent): void {
    const { charged, ...logged } = event;
    for (const layer of charged.layers)
      this.#log(charged.policy, layer).record({ ...logged, retainMs: charged.retainMs });
  }

  /** The rows that store every change, one for each page that has one. From then on they are taken for stored. */
  takeChanges(): PageRow[] {
    return this.#pages.takeChanges();
  }

  /**
   * Of each counter, how many events count in its window, and the newest of them, newest first. Read from what is stored,
   * all counters in one go: memory holds no ids.
   */
  events(asked: readonly CounterWindow[], most: number, nowMs: number): { total: number; events: StoredEvent[] }[] {
    const found = asked.map(({ policy, layer, windowMs }) => {
      const fromMs = Math.max(nowMs - windowMs + 1, this.#keptFromMs(policy, layer, nowMs));
      return { policy, layer, fromMs, total: 0, events: [] as StoredEvent[] };
    });
    for (const { id, atMs, cost, charged, admittedCost } of this.#pages.events())
      for (const counter of found) {
        const { policy, layer, fromMs, events } = counter;
        if (policy !== charged.policy || !charged.layers.includes(layer) || atMs < fromMs) continue;
        counter.total += 1;
        events.push({ id, atMs, cost, ...(admittedCost !== cost && { admittedCost }) });
        if (events.length > 2 * most + 100) events.splice(0, events.length - most);
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

  /** Callers may name layers: those whose events have all left must not pile up. */
  #deleteEmptyLogs(nowMs: number): void {
    if (this.#logs.size <= 2 * this.#logsKept + FEW_LOGS) return;
    for (const [name, log] of this.#logs) {
      const [policy = "", layer = ""] = name.split("/");
      if (!Number.isFinite(this.#keptFromMs(policy, layer, nowMs)) || log.size === 0) this.#logs.delete(name);
    }
    this.#logsKept = this.#logs.size;
  }

  /** The instant from which on a counter keeps events: Infinity when it keeps none. */
  #keptFromMs(policy: string, layer: string, nowMs: number): number {
    const log = this.#logs.get(nameOf(policy, layer)) ?? NOTHING;
    return log.keptFromMs(nowMs, this.#overrideOf(policy, layer, nowMs)?.keptFromMs);
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
      keeps: ({ atMs, charged }) =>
        charged.layers.some((layer) => atMs >= this.#keptFromMs(charged.policy, layer, nowMs)),
      spares: ({ lastAtMs }) => {
        const override = this.overrideAt(nowMs);
        return override !== undefined && sparedUntilMs(override, lastAtMs) > nowMs;
      },
    };
  }
}

function first<T>(items: Iterable<T>, most: number): T[] {
  const found: T[] = [];
  for (const item of items) if (found.push(item) >= most) break;
  return found;
}

function nameOf(policy: string, layer: string): string {
  return `${policy}/${layer}`;
}
