import type { Config } from "../config/config";
import { callWithin, within } from "../objects/deadline";
import type { Restrictable } from "../objects/jurisdiction";
import type { Timing } from "../objects/timing";
import { addLatencies, noLatencies } from "./latencies";
import type { Recent, Sums, Totals } from "./protocol";
import { addSignIns, noSignIns } from "./sign-ins";
import { SpaceSaving } from "./space-saving";
import { addTallies, MOST_DENIED_KEYS, type Tallies } from "./tally";

/** The calls of an object that adds up counts. */
export interface StatsStub {
  add(sums: Sums): Promise<void>;
  write(): Promise<void>;
  recent(minutes: number): Promise<Recent>;
  totals(): Promise<Totals>;
}

export interface StatsNamespace extends Restrictable {
  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): StatsStub;
}

/**
 * The names of all stats objects. Never take one away: its counts would be missing from the sums, and counters would go
 * down. The first has the name from when there was only one.
 */
export const STATS_NAMES = ["stats", "stats:1", "stats:2", "stats:3"] as const;

/**
 * The objects that add up the counts of all isolates. An isolate sends to one of them, always the same, which knows sums
 * that are sent again. A read asks all of them and adds up. It fails if one is unreachable: the sums would be wrong.
 */
export class StatsObjects {
  readonly #own: string;

  constructor(
    private readonly namespace: StatsNamespace,
    private readonly config: Pick<Config, "locationHint" | "deadlineMs">,
    private readonly timing: Timing,
  ) {
    this.#own = STATS_NAMES[Math.floor(timing.random() * STATS_NAMES.length)] ?? STATS_NAMES[0];
  }

  async add(sums: Sums): Promise<void> {
    await within(this.config.deadlineMs, this.#stub(this.#own).add(sums), this.timing);
  }

  /** Has everything written that is only in memory. */
  async write(): Promise<void> {
    await this.#askAll((stub) => stub.write());
  }

  /** The counts of the last minutes, and the keys denied most often. */
  async recent(minutes: number): Promise<Recent> {
    return addRecents(await this.#askAll((stub) => stub.recent(minutes)));
  }

  /** The counts since the beginning. */
  async totals(): Promise<Totals> {
    return addTotals(await this.#askAll((stub) => stub.totals()));
  }

  #askAll<T>(call: (stub: StatsStub) => Promise<T>): Promise<T[]> {
    const { deadlineMs } = this.config;
    // `async`: a stub may throw at once.
    const ask = (name: string) => callWithin(deadlineMs, async () => call(this.#stub(name)), this.timing);
    return Promise.all(STATS_NAMES.map(ask));
  }

  /** A new stub for each call: one whose object was reset keeps failing. */
  #stub(name: string): StatsStub {
    const { locationHint } = this.config;
    return this.namespace.getByName(name, locationHint === undefined ? {} : { locationHint });
  }
}

function addTotals(all: readonly Totals[]): Totals {
  const sinceMs = Math.min(...all.map((totals) => totals.sinceMs));
  const sum = { sinceMs, tallies: new Map() as Tallies, latencies: noLatencies(), signIns: noSignIns() };
  for (const { tallies, latencies, signIns } of all) {
    addTallies(sum.tallies, tallies);
    addLatencies(sum.latencies, latencies);
    addSignIns(sum.signIns, signIns);
  }
  return sum;
}

function addRecents(all: readonly Recent[]): Recent {
  const minutes = new Map<number, Tallies>();
  const keys = new SpaceSaving(MOST_DENIED_KEYS);
  const sum = noSignIns();
  for (const { minutes: counted, deniedKeys, signIns } of all) {
    for (const { atMs, tallies } of counted) {
      const minute: Tallies = minutes.get(atMs) ?? new Map();
      addTallies(minute, tallies);
      minutes.set(atMs, minute);
    }
    keys.merge(new SpaceSaving(MOST_DENIED_KEYS, deniedKeys));
    addSignIns(sum, signIns);
  }
  return {
    minutes: [...minutes].sort(([a], [b]) => a - b).map(([atMs, tallies]) => ({ atMs, tallies })),
    deniedKeys: keys.estimates(),
    errorAtMost: keys.errorAtMost,
    signIns: sum,
  };
}
