import type { Config } from "../config/config";
import type { Policy } from "../core/policy";
import { logFault } from "../fault";
import { type Decision, reasonsOf, shadowReasonsOf } from "../limiter/decision";
import type { Watcher } from "../limiter/limiter";
import type { WaitUntil } from "../objects/asker";
import type { Timing } from "../objects/timing";
import { Refusal } from "../request/refusal";
import { type Analytics, writeDataPoints } from "./analytics";
import { observe } from "./latencies";
import { Outbox } from "./outbox";
import type { Recent, Sums, Totals } from "./protocol";
import { RunningSums } from "./running-sums";
import { countRequestsOf } from "./sign-ins";
import type { StatsObjects } from "./stats-objects";
import { countIn, type DecisionOutcome } from "./tally";

/** How long a request waits for others to count, if nothing was sent a moment ago. */
const WAIT_MS = 3_000;
/** The runtime lets a request wait for half a minute at most. */
const LONGEST_WAIT_MS = 20_000;
/** The runtime may end a request that waits to send. When it is late by this much, another request takes over. */
const LATE_MS = 10_000;

/** Where sums go: to the stats objects, to Analytics Engine, or to both. */
export interface Destinations {
  readonly objects?: StatsObjects | undefined;
  readonly analytics?: Analytics | undefined;
}

/**
 * Counts the outcomes of consumes, by additions in memory, and sends the sums in the background. Nothing here throws or
 * delays a decision. An isolate that ends loses its sums.
 */
export class Counts implements Watcher {
  #sums = new RunningSums();
  readonly #outbox: Outbox;
  /** When the request that waits to send is due. */
  #waitsUntilMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly config: Pick<Config, "policies">,
    private readonly destinations: Destinations,
    private readonly timing: Timing,
  ) {
    this.#outbox = new Outbox(
      () => this.#take(),
      async (sums) => destinations.objects?.add(sums),
      (sums) => destinations.analytics && writeDataPoints(destinations.analytics, sums),
      timing,
    );
  }

  onDecision(decision: Decision): void {
    const { tallies } = this.#sums;
    const outcome = outcomeOf(decision);
    countIn(tallies, decision.policy.name, outcome);
    if (!decision.allowed) this.#countReasons(decision, outcome);
    for (const layer of shadowReasonsOf(decision))
      countIn(tallies, `${decision.policy.name}/${layer}`, "shadow_denied");
  }

  onFailure(policy: Policy): void {
    countIn(this.#sums.tallies, policy.name, "error");
  }

  /** Counts requests that were sent with the token of this name. */
  countRequests(tokenName: string, requests: number): void {
    countRequestsOf(this.#sums.signIns, tokenName, requests);
  }

  /** Counts a request without a valid token. */
  countFailedSignIn(): void {
    this.#sums.signIns.failed += 1;
  }

  /** Counts the duration of a call to an object. */
  readonly observe = (ms: number): void => observe(this.#sums.latencies, ms);

  /**
   * Has what was counted sent: this request waits until it is due, unless another one waits. The wait ends with the
   * request, and costs nothing in a Worker. In workerd no request can wait for another's promise.
   */
  sendLater(waitUntil: WaitUntil): void {
    const nowMs = this.timing.now();
    if (nowMs < this.#waitsUntilMs + LATE_MS || this.isEmpty) return;
    const atMs = Math.max(nowMs + WAIT_MS, this.#outbox.dueMs);
    if (atMs > nowMs + LONGEST_WAIT_MS) return;
    this.#waitsUntilMs = atMs;
    waitUntil(this.#sendIn(atMs - nowMs));
  }

  /** Nothing is to be sent. */
  get isEmpty(): boolean {
    return this.#sums.isEmpty && this.#outbox.isEmpty;
  }

  /** From when on sums are to be sent: some seconds after the last ones, later after failures. */
  get dueMs(): number {
    return this.#outbox.dueMs;
  }

  /** Sends what was counted. Never throws: sums that can't be sent are sent again later. */
  async send(): Promise<void> {
    await this.#outbox.send();
  }

  /** Sends the counts of this isolate and has all counts written, before the service ends. */
  async write(): Promise<void> {
    await this.send();
    await this.destinations.objects?.write();
  }

  /** Counts can be read here, and not only in Analytics Engine. */
  get isReadable(): boolean {
    return this.destinations.objects !== undefined;
  }

  /** The counts of the last minutes, and the keys denied most often. @throws Refusal `unreachable` */
  async recent(minutes: number): Promise<Recent> {
    return this.#read((objects) => objects.recent(minutes));
  }

  /** The counts since the beginning. @throws Refusal `unreachable` */
  async totals(): Promise<Totals> {
    return this.#read((objects) => objects.totals());
  }

  /** Forgets what is not sent. */
  clear(): void {
    this.#sums = new RunningSums();
    this.#outbox.clear();
  }

  /** Sends the counts of this isolate first, so that the result includes decisions of a moment ago. */
  async #read<T>(call: (objects: StatsObjects) => Promise<T>): Promise<T> {
    const { objects } = this.destinations;
    if (!objects) throw new Error("Counts that go to Analytics Engine alone can't be read here.");
    await this.send();
    try {
      return await call(objects);
    } catch (error) {
      logFault("counts_not_read", error);
      throw new Refusal("unreachable", "The counts could not be reached in time. Try again.");
    }
  }

  #countReasons(decision: Decision, outcome: DecisionOutcome): void {
    const { policy } = decision;
    const { tallies, deniedKeys } = this.#sums;
    // Callers may name any number of inline layers, which would make the sums unbounded.
    const isConfigured = this.config.policies.get(policy.name) === policy;
    for (const [layer, key] of reasonsOf(decision)) {
      if (isConfigured) countIn(tallies, `${policy.name}/${layer}`, outcome);
      deniedKeys.add(`${policy.name}\n${layer}\n${key}`);
    }
  }

  async #sendIn(ms: number): Promise<void> {
    await new Promise<void>((resolve) => void this.timing.after(ms, resolve));
    this.#waitsUntilMs = Number.NEGATIVE_INFINITY;
    await this.send();
  }

  #take(): Sums | undefined {
    if (this.#sums.isEmpty) return undefined;
    const sums = this.#sums.toSums();
    this.#sums = new RunningSums();
    return sums;
  }
}

function outcomeOf({ allowed, isCached, degraded, wouldDeny, replayed }: Decision): DecisionOutcome {
  if (!allowed) return isCached ? "denied_at_edge" : "denied";
  if (degraded) return "degraded";
  if (wouldDeny) return "shadow_denied";
  return replayed ? "replayed" : "allowed";
}
