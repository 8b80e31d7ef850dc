import { addLatencies, type Latencies, noLatencies } from "./latencies";
import type { Recent, Sums, Totals } from "./protocol";
import { Senders, type StoredSenders } from "./senders";
import {
  addSignIns,
  areNone,
  noSignIns,
  readSignIns,
  type SignIns,
  type StoredSignIns,
  storedSignIns,
} from "./sign-ins";
import { type Estimate, SpaceSaving } from "./space-saving";
import type { StatsRow, StatsStore } from "./stats-store";
import { addTallies, MOST_DENIED_KEYS, type Tallies, type Tally } from "./tally";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const MINUTES = 1_440;
/** The current hour and the 24 before it. */
const HOURS = 25;

/**
 * The counts: by minute and by hour for a day, and totals. Rows that changed since the last write are in memory, as
 * they will be written. All other rows are only in the table.
 */
export class Book {
  readonly #minutes = new Map<number, Minute>();
  readonly #hours = new Map<number, SpaceSaving>();
  #totals: BookTotals | undefined;
  /** When counts were last added. Never goes back, so that no minute begins twice. */
  #lastMs: number;

  constructor(private readonly store: StatsStore) {
    this.#lastMs = store.load("totals", 0)?.atMs ?? Number.NEGATIVE_INFINITY;
  }

  get lastMs(): number {
    return this.#lastMs;
  }

  /** There are counts that are only in memory. */
  get isUnwritten(): boolean {
    return this.#totals !== undefined;
  }

  /** Adds sums, unless they are already in the book. */
  add({ id, tallies, latencies, deniedKeys, signIns }: Sums, atMs: number): void {
    const nowMs = Math.max(atMs, this.#lastMs);
    // Everything that may throw comes first: sums that were added in part would be sent again and counted twice.
    const totals = this.#totals ?? this.#storedTotals() ?? newTotals(nowMs);
    if (id && totals.senders.has(id)) return;
    const minute = tallies.size > 0 || signIns ? this.#minute(nowMs) : undefined;
    const hour = deniedKeys.length > 0 ? this.#hour(nowMs) : undefined;
    this.#lastMs = nowMs;
    this.#totals = totals;
    if (id) totals.senders.add(id, nowMs);
    addTallies(totals.tallies, tallies);
    addLatencies(totals.latencies, latencies);
    addSignIns(totals.signIns, signIns);
    if (minute) addTallies(minute.tallies, tallies);
    if (minute) addSignIns(minute.signIns, signIns);
    hour?.merge(new SpaceSaving(MOST_DENIED_KEYS, deniedKeys));
  }

  /** Writes the rows that changed: a row per minute and hour, and the totals. */
  write(): void {
    if (!this.#totals) return;
    const { sinceMs, tallies, latencies, signIns, senders } = this.#totals;
    const body = JSON.stringify({
      sinceMs,
      tallies: [...tallies],
      latencies,
      signIns: storedSignIns(signIns),
      senders: senders.stored(),
    } satisfies StoredTotals);
    const rows: StatsRow[] = [{ kind: "totals", slot: 0, atMs: this.#lastMs, body }];
    for (const [atMs, minute] of this.#minutes)
      rows.push({ kind: "minute", slot: minuteSlot(atMs), atMs, body: minuteText(minute) });
    for (const [atMs, keys] of this.#hours)
      rows.push({ kind: "hour", slot: hourSlot(atMs), atMs, body: JSON.stringify(keys.estimates()) });
    this.store.put(rows);
    this.#totals = undefined;
    this.#minutes.clear();
    this.#hours.clear();
  }

  totals(nowMs: number): Totals {
    const { senders: _, ...totals } = this.#totals ?? this.#storedTotals() ?? newTotals(nowMs);
    return totals;
  }

  /** The last `minutes`, the current one included, and the keys denied most often in the last day. */
  recent(minutes: number, atMs: number): Recent {
    const nowMs = Math.max(atMs, this.#lastMs);
    const fromMs = startOf(nowMs, MINUTE_MS) - (minutes - 1) * MINUTE_MS;
    const counted = new Map(this.store.since("minute", fromMs).map(({ atMs, body }) => [atMs, readMinute(body)]));
    for (const [atMs, minute] of this.#minutes) if (atMs >= fromMs) counted.set(atMs, minute);
    const signIns = noSignIns();
    for (const minute of counted.values()) addSignIns(signIns, minute.signIns);

    const fromHourMs = startOf(nowMs, HOUR_MS) - (HOURS - 1) * HOUR_MS;
    const hours = new Map(this.store.since("hour", fromHourMs).map(({ atMs, body }) => [atMs, readKeys(body)]));
    for (const [atMs, keys] of this.#hours) if (atMs >= fromHourMs) hours.set(atMs, keys);
    const keys = new SpaceSaving(MOST_DENIED_KEYS);
    for (const hour of hours.values()) keys.merge(hour);

    return {
      minutes: [...counted]
        .filter(([, { tallies }]) => tallies.size > 0)
        .sort(([a], [b]) => a - b)
        .map(([atMs, { tallies }]) => ({ atMs, tallies })),
      deniedKeys: keys.estimates(),
      errorAtMost: keys.errorAtMost,
      signIns,
    };
  }

  #minute(nowMs: number): Minute {
    const atMs = startOf(nowMs, MINUTE_MS);
    const changed = this.#minutes.get(atMs);
    if (changed) return changed;
    const stored = this.store.load("minute", minuteSlot(atMs));
    const minute = readMinute(stored?.atMs === atMs ? stored.body : "[]");
    this.#minutes.set(atMs, minute);
    return minute;
  }

  #hour(nowMs: number): SpaceSaving {
    const atMs = startOf(nowMs, HOUR_MS);
    const changed = this.#hours.get(atMs);
    if (changed) return changed;
    const stored = this.store.load("hour", hourSlot(atMs));
    const keys = stored?.atMs === atMs ? readKeys(stored.body) : new SpaceSaving(MOST_DENIED_KEYS);
    this.#hours.set(atMs, keys);
    return keys;
  }

  #storedTotals(): BookTotals | undefined {
    const stored = this.store.load("totals", 0);
    if (!stored) return undefined;
    const { sinceMs, tallies, latencies, signIns, senders } = JSON.parse(stored.body) as StoredTotals;
    return {
      sinceMs,
      tallies: new Map(tallies),
      latencies,
      signIns: readSignIns(signIns),
      senders: new Senders(senders),
    };
  }
}

interface StoredTotals {
  readonly sinceMs: number;
  readonly tallies: StoredTallies;
  readonly latencies: Latencies;
  readonly signIns?: StoredSignIns;
  readonly senders?: StoredSenders;
}

/** The totals, and whose sums they have. Both are one row, so that a crash loses both or neither. */
interface BookTotals extends Required<Totals> {
  readonly senders: Senders;
}

type StoredTallies = [name: string, tally: Tally][];

interface Minute {
  readonly tallies: Tallies;
  readonly signIns: SignIns;
}

/** Where a stored minute has its sign-ins. Earlier code takes it for a policy without decisions. */
const SIGN_INS = "";

function newTotals(sinceMs: number): BookTotals {
  return { sinceMs, tallies: new Map(), latencies: noLatencies(), signIns: noSignIns(), senders: new Senders() };
}

function minuteText({ tallies, signIns }: Minute): string {
  return JSON.stringify(areNone(signIns) ? [...tallies] : [...tallies, [SIGN_INS, storedSignIns(signIns)]]);
}

function readMinute(body: string): Minute {
  const entries = JSON.parse(body) as [name: string, value: unknown][];
  const signIns = entries.find(([name]) => name === SIGN_INS)?.[1] as StoredSignIns | undefined;
  const tallies = entries.filter(([name]) => name !== SIGN_INS) as StoredTallies;
  return { tallies: new Map(tallies), signIns: readSignIns(signIns) };
}

function readKeys(body: string): SpaceSaving {
  return new SpaceSaving(MOST_DENIED_KEYS, JSON.parse(body) as Estimate[]);
}

function startOf(ms: number, lengthMs: number): number {
  return Math.floor(ms / lengthMs) * lengthMs;
}

function minuteSlot(atMs: number): number {
  return (atMs / MINUTE_MS) % MINUTES;
}

function hourSlot(atMs: number): number {
  return (atMs / HOUR_MS) % HOURS;
}
