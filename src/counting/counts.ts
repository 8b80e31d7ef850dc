import type { Config } from "../config/config";
import type { Policy } from "../core/policy";
import { logFault } from "../fault";
import { type Decision, reasonsOf, shadowReasonsOf } from "../limiter/decision";
import type { Watcher } from "../limiter/limiter";
import { callWithin, type Timing, within } from "../objects/deadline";
import type { Restrictable } from "../objects/jurisdiction";
import type { WaitUntil } from "../objects/objects";
import { Refusal } from "../request/refusal";
import { addLatencies, type Latencies, noLatencies, observe } from "./latencies";
import type { Recent, Sums, Totals } from "./protocol";
import { addSignIns, areNone, countRequestsOf, noSignIns, type SignIns } from "./sign-ins";
import { SpaceSaving } from "./space-saving";
import { addTallies, countIn, type DecisionOutcome, MOST_DENIED_KEYS, type Tallies } from "./tally";

/** The calls of the object that adds up all counts. */
export interface StatsStub {
  add(sums: Sums): Promise<void>;
  write(): Promise<void>;
  recent(minutes: number): Promise<Recent>;
  totals(): Promise<Totals>;
}

export interface StatsNamespace extends Restrictable {
  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): StatsStub;
}

/** Analytics Engine, which gets the sums as data points once the stats object has them. */
export type Analytics = Pick<AnalyticsEngineDataset, "writeDataPoint">;

/** The name of the only stats object. */
export const STATS_NAME = "stats";

const SEND_EVERY_MS = 3_000;
/** The runtime may end a request that waits to send. When it is late by this much, another request takes over. */
const LATE_MS = 10_000;

/**
 * Counts the outcomes of consumes, by additions in memory, and sends the sums in the background. Nothing here throws or
 * delays a decision. Sums that can't be sent are added to the next ones. They are bounded, since policies and outcomes are.
 * Sums whose acknowledgement was lost may be counted twice. An isolate that ends loses its sums.
 */
export class Counts implements Watcher {
  #tallies: Tallies = new Map();
  #latencies: Latencies = noLatencies();
  #deniedKeys = new SpaceSaving(MOST_DENIED_KEYS);
  #signIns: SignIns = noSignIns();
  /** When the request that waits to send is due. */
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly stats: StatsNamespace,
    private readonly config: Pick<Config, "policies" | "locationHint" | "deadlineMs">,
    private readonly timing: Timing,
    private readonly analytics?: Analytics,
  ) {}

  onDecision(decision: Decision, waitUntil: WaitUntil): void {
    const outcome = outcomeOf(decision);
    countIn(this.#tallies, decision.policy.name, outcome);
    if (!decision.allowed) this.#countReasons(decision, outcome);
    for (const layer of shadowReasonsOf(decision))
      countIn(this.#tallies, `${decision.policy.name}/${layer}`, "shadow_denied");
    this.#sendLater(waitUntil);
  }

  onFailure(policy: Policy, waitUntil: WaitUntil): void {
    countIn(this.#tallies, policy.name, "error");
    this.#sendLater(waitUntil);
  }

  /** Counts requests that were sent with the token of this name. Nothing is sent before the next decision. */
  countRequests(tokenName: string, requests: number): void {
    countRequestsOf(this.#signIns, tokenName, requests);
  }

  /** Counts a request without a valid token. */
  countFailedSignIn(): void {
    this.#signIns.failed += 1;
  }

  /** Counts the duration of a call to an object. */
  readonly observe = (ms: number): void => observe(this.#latencies, ms);

  async send(): Promise<void> {
    const sums = this.#take();
    if (isEmpty(sums)) return;
    try {
      await within(this.config.deadlineMs, this.#stub().add(sums), this.timing);
    } catch (error) {
      logFault("Counts could not be sent. They are sent again later.", error);
      this.#addAgain(sums);
      return;
    }
    this.#writeDataPoints(sums.tallies);
  }

  /** Sends the counts of this isolate and has all counts written, before the service ends. */
  async write(): Promise<void> {
    await this.send();
    await within(this.config.deadlineMs, this.#stub().write(), this.timing);
  }

  /** The counts of the last minutes, and the keys denied most often. @throws Refusal `unreachable` */
  async recent(minutes: number): Promise<Recent> {
    return this.#read((stub) => stub.recent(minutes));
  }

  /** The counts since the beginning. @throws Refusal `unreachable` */
  async totals(): Promise<Totals> {
    return this.#read((stub) => stub.totals());
  }

  clear(): void {
    this.#take();
  }

  /** Sends the counts of this isolate first, so that the result includes decisions of a moment ago. */
  async #read<T>(call: (stub: StatsStub) => Promise<T>): Promise<T> {
    await this.send();
    try {
      return await callWithin(this.config.deadlineMs, () => call(this.#stub()), this.timing);
    } catch (error) {
      logFault("Counts could not be read.", error);
      throw new Refusal("unreachable", "The counts could not be reached in time. Try again.");
    }
  }

  #countReasons(decision: Decision, outcome: DecisionOutcome): void {
    const { policy } = decision;
    // Callers may name any number of inline layers, which would make the sums unbounded.
    const isConfigured = this.config.policies.get(policy.name) === policy;
    for (const [layer, key] of reasonsOf(decision)) {
      if (isConfigured) countIn(this.#tallies, `${policy.name}/${layer}`, outcome);
      this.#deniedKeys.add(`${policy.name}\n${layer}\n${key}`);
    }
  }

  /** The first request that counts something waits and sends. In workerd no request can wait for another's promise. */
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
    const sums = {
      tallies: this.#tallies,
      latencies: this.#latencies,
      deniedKeys: this.#deniedKeys.estimates(),
      ...(!areNone(this.#signIns) && { signIns: this.#signIns }),
    };
    this.#tallies = new Map();
    this.#latencies = noLatencies();
    this.#deniedKeys = new SpaceSaving(MOST_DENIED_KEYS);
    this.#signIns = noSignIns();
    return sums;
  }

  #addAgain({ tallies, latencies, deniedKeys, signIns }: Sums): void {
    addTallies(this.#tallies, tallies);
    addLatencies(this.#latencies, latencies);
    this.#deniedKeys.merge(new SpaceSaving(MOST_DENIED_KEYS, deniedKeys));
    addSignIns(this.#signIns, signIns);
  }

  #writeDataPoints(tallies: Tallies): void {
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

function isEmpty({ tallies, latencies, signIns }: Sums): boolean {
  return tallies.size === 0 && latencies.counts.every((count) => count === 0) && !signIns;
}

function outcomeOf({ allowed, isCached, degraded, wouldDeny, replayed }: Decision): DecisionOutcome {
  if (!allowed) return isCached ? "denied_at_edge" : "denied";
  if (degraded) return "degraded";
  if (wouldDeny) return "shadow_denied";
  return replayed ? "replayed" : "allowed";
}
