import type { Config } from "../config/config";
import { addLatencies, type Latencies, noLatencies, observe } from "../core/latencies";
import type { Policy } from "../core/policy";
import { SpaceSaving } from "../core/space-saving";
import { addTallies, countIn, type DecisionOutcome, MOST_DENIED_KEYS, type Tallies } from "../core/tally";
import type { Recent, Sums, Totals } from "../stats/protocol";
import { callWithin, type Timing, within } from "./deadline";
import { type Decided, reasonsOf, shadowReasonsOf } from "./decision";
import type { WaitUntil } from "./fan-out";
import { logFault } from "./fault";
import { Refusal } from "./refusal";

/** The calls of the object that adds up. */
export interface StatsStub {
  add(sums: Sums): Promise<void>;
  write(): Promise<void>;
  recent(minutes: number): Promise<Recent>;
  totals(): Promise<Totals>;
}

export interface StatsNamespace {
  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): StatsStub;
}

/** Where every sum that is sent becomes data points too: the part of Analytics Engine that is used. */
export type Analytics = Pick<AnalyticsEngineDataset, "writeDataPoint">;

/** One for the whole service. */
export const STATS_NAME = "stats";

const SEND_EVERY_MS = 3_000;
/** The runtime may end what waits. When nothing was sent for so long after it was due, somebody else is to wait. */
const LATE_MS = 10_000;

/**
 * Counts what becomes of consumes, by additions in memory, and sends the sums off the path of any request. Nothing here
 * throws or delays a decision. Sums that can't be sent are added to the next ones; they don't grow, since there are only
 * so many policies and outcomes. Those whose arrival was not heard of may be counted twice, those of an isolate that ends
 * are lost.
 */
export class Counts {
  #tallies: Tallies = new Map();
  #latencies: Latencies = noLatencies();
  #deniedKeys = new SpaceSaving(MOST_DENIED_KEYS);
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly stats: StatsNamespace,
    private readonly config: Pick<Config, "policies" | "locationHint" | "deadlineMs">,
    private readonly timing: Timing,
    private readonly analytics?: Analytics,
  ) {}

  /** A consume that was answered. */
  decided(decided: Decided, waitUntil: WaitUntil): void {
    const outcome = outcomeOf(decided);
    countIn(this.#tallies, decided.policy.name, outcome);
    if (!decided.allowed) this.#countReasons(decided, outcome);
    for (const layer of shadowReasonsOf(decided))
      countIn(this.#tallies, `${decided.policy.name}/${layer}`, "shadow_denied");
    this.#sendLater(waitUntil);
  }

  /** A consume that could not be answered. */
  failed(policy: Policy, waitUntil: WaitUntil): void {
    countIn(this.#tallies, policy.name, "error");
    this.#sendLater(waitUntil);
  }

  /** How long a call to an object took. */
  readonly observe = (ms: number): void => observe(this.#latencies, ms);

  async send(): Promise<void> {
    const sums = this.#take();
    if (sums.tallies.size === 0 && sums.latencies.counts.every((count) => count === 0)) return;
    try {
      await within(this.config.deadlineMs, this.#stub().add(sums), this.timing);
    } catch (error) {
      logFault("Counts could not be sent; they are sent again later.", error);
      this.#putBack(sums);
      return;
    }
    this.#analyse(sums.tallies);
  }

  /** Sends what was counted here, and has all that was counted written: for whoever is about to end the service. */
  async write(): Promise<void> {
    await this.send();
    await within(this.config.deadlineMs, this.#stub().write(), this.timing);
  }

  /** What was counted in the last minutes, and whom was denied most often. @throws Refusal `unreachable` */
  async recent(minutes: number): Promise<Recent> {
    return this.#ask((stub) => stub.recent(minutes));
  }

  /** What was counted since the beginning. @throws Refusal `unreachable` */
  async totals(): Promise<Totals> {
    return this.#ask((stub) => stub.totals());
  }

  forget(): void {
    this.#take();
  }

  /** After what was counted here itself, so that who asks sees what was decided a moment ago. */
  async #ask<T>(question: (stub: StatsStub) => Promise<T>): Promise<T> {
    await this.send();
    try {
      return await callWithin(this.config.deadlineMs, () => question(this.#stub()), this.timing);
    } catch (error) {
      logFault("Counts could not be read.", error);
      throw new Refusal("unreachable", "The counts could not be reached in time. Try again.");
    }
  }

  #countReasons(decided: Decided, outcome: DecisionOutcome): void {
    const { policy } = decided;
    // Layers that callers name are as many as they like.
    const isConfigured = this.config.policies.get(policy.name) === policy;
    for (const [layer, key] of reasonsOf(decided)) {
      if (isConfigured) countIn(this.#tallies, `${policy.name}/${layer}`, outcome);
      this.#deniedKeys.add(`${policy.name}\n${layer}\n${key}`);
    }
  }

  /** The first that counts something waits for the rest: a promise of one request can't be another one's to wait for. */
  #sendLater(waitUntil: WaitUntil): void {
    const nowMs = this.timing.now();
    if (nowMs < this.#dueMs + LATE_MS) return;
    this.#dueMs = nowMs + SEND_EVERY_MS;
    waitUntil(this.#sendWhenDue());
  }

  async #sendWhenDue(): Promise<void> {
    await new Promise<void>((resolve) => void this.timing.after(SEND_EVERY_MS, resolve));
    this.#dueMs = Number.NEGATIVE_INFINITY;
    await this.send();
  }

  #take(): Sums {
    const sums = { tallies: this.#tallies, latencies: this.#latencies, deniedKeys: this.#deniedKeys.estimates() };
    this.#tallies = new Map();
    this.#latencies = noLatencies();
    this.#deniedKeys = new SpaceSaving(MOST_DENIED_KEYS);
    return sums;
  }

  #putBack({ tallies, latencies, deniedKeys }: Sums): void {
    addTallies(this.#tallies, tallies);
    addLatencies(this.#latencies, latencies);
    this.#deniedKeys.merge(new SpaceSaving(MOST_DENIED_KEYS, deniedKeys));
  }

  #analyse(tallies: Tallies): void {
    try {
      for (const [name, tally] of tallies) {
        const [policy = "", layer = ""] = name.split("/");
        for (const [outcome, count] of Object.entries(tally))
          this.analytics?.writeDataPoint({ indexes: [policy], blobs: [policy, layer, outcome], doubles: [count] });
      }
    } catch (error) {
      logFault("Data points could not be written to LIMITER_ANALYTICS.", error);
    }
  }

  #stub(): StatsStub {
    const { locationHint } = this.config;
    return this.stats.getByName(STATS_NAME, locationHint === undefined ? {} : { locationHint });
  }
}

function outcomeOf({ allowed, isRemembered, degraded, wouldDeny, replayed }: Decided): DecisionOutcome {
  if (!allowed) return isRemembered ? "denied_at_edge" : "denied";
  if (degraded) return "degraded";
  if (wouldDeny) return "shadow_denied";
  return replayed ? "replayed" : "allowed";
}
