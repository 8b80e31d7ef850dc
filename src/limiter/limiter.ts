import type { Config } from "../config/config";
import type { Policy } from "../core/policy";
import { BatchOrder } from "../objects/batch-order";
import type { DecidingStub, ObjectNamespace } from "../objects/binding";
import { CachedObjects } from "../objects/cached-objects";
import { CallQueues } from "../objects/call-queue";
import { DirectCalls, type ObjectCalls } from "../objects/calls";
import { sharingTimers, type Timing } from "../objects/deadline";
import type { DenialCache } from "../objects/denial-cache";
import { FanOut } from "../objects/fan-out";
import type { ConsumeVerdict, Objects, WaitUntil } from "../objects/objects";
import { OrderedObjects } from "../objects/ordered-objects";
import { Breakers } from "../objects/overload";
import type { ValidChange, ValidConsume, ValidRequest } from "../request/read";
import { Refusal } from "../request/refusal";
import type { PolicyList } from "../request/schema";
import { type ChangeDecision, changeDecisionOf, type Decision, decisionOf, degradedDecision } from "./decision";
import { limitBody } from "./decision-body";
import { Shadow, type ShadowVerdict } from "./shadow";

/** Is told how consumes were decided, and takes no part in the decisions. Must not throw. */
export interface Watcher {
  /** A consume was decided. */
  onDecision(decision: Decision, waitUntil: WaitUntil): void;
  /** A consume could not be decided, and not by its caller's mistake. */
  onFailure?(policy: Policy, waitUntil: WaitUntil): void;
}

/** The place of a decision in a batch. */
interface BatchPlace {
  readonly position: number;
  readonly order: BatchOrder;
  readonly calls: ObjectCalls;
}

/** Decides requests. HTTP and RPC read them (`request/read.ts`), and translate the decisions. */
export class Limiter {
  readonly #calls: ObjectCalls;

  constructor(
    private readonly config: Config,
    private readonly namespace: ObjectNamespace<DecidingStub>,
    private readonly timing: Timing,
    private readonly denialCache: DenialCache,
    private readonly watchers: readonly Watcher[] = [],
    private readonly batch?: BatchPlace,
    private readonly breakers = new Breakers(timing),
  ) {
    this.#calls = batch?.calls ?? new DirectCalls(namespace, config, timing, breakers);
  }

  /** Call queues, one for each object. The decisions of a batch share them, or all batches of a hub. */
  callQueues(): CallQueues {
    return new CallQueues(this.namespace, this.config, sharingTimers(this.timing), this.breakers);
  }

  /** The same limiter, for the decision at each position of a batch. */
  forBatch(queues: CallQueues): (position: number) => Limiter {
    const { namespace, config, denialCache, watchers, breakers } = this;
    const { timing } = queues;
    const callsAt = queues.forBatch();
    const order = new BatchOrder(config.placement, timing, (keys) => denialCache.invalidate(keys));
    const placeAt = (position: number) => ({ position, order, calls: callsAt(position) });
    return (position) => new Limiter(config, namespace, timing, denialCache, watchers, placeAt(position), breakers);
  }

  /** Whether the request would be admitted now. Records nothing, and never uses the denial cache. */
  async check(request: ValidRequest): Promise<Decision> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { policy, cost, counters } = request;
    try {
      const verdict = await this.#objects(giveUpAtMs).check({ policy: policy.name, cost, counters });
      return decisionOf(request, verdict, undefined, await this.#shadowOf(request, giveUpAtMs)?.check());
    } catch (error) {
      if (this.#admits(error, request.policy)) return degradedDecision(request);
      throw error;
    }
  }

  /** Records the request's cost if every limit of every layer admits it. An id is charged once, however often it is sent. */
  async consume(request: ValidConsume, waitUntil: WaitUntil): Promise<Decision> {
    const deciding = this.#consume(request, waitUntil);
    // A request is counted in shadow even if its caller hangs up.
    if (request.shadow.length > 0) waitUntil(deciding.catch(() => {}));
    let decision: Decision;
    try {
      decision = await deciding;
    } catch (error) {
      if (!this.#admits(error, request.policy)) {
        const isCallersMistake = error instanceof Refusal && error.kind !== "unreachable";
        if (!isCallersMistake) for (const watcher of this.watchers) watcher.onFailure?.(request.policy, waitUntil);
        throw error;
      }
      decision = degradedDecision(request, request.id);
    }
    for (const watcher of this.watchers) watcher.onDecision(decision, waitUntil);
    return decision;
  }

  async #consume(request: ValidConsume, waitUntil: WaitUntil): Promise<Decision> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { id, policy, cost, counters, identity, aliases, isNew } = request;
    const question = {
      policy: policy.name,
      cost,
      counters,
      id,
      identity,
      aliases,
      windowMs: policy.liveWindowMs,
      attemptMs: attemptMs(this.config),
      cacheMs: this.config.denyCacheMs || undefined,
    };
    const verdict = await this.#objects(giveUpAtMs).consume(question, { waitUntil, isNew });
    const shadow = await this.#consumeInShadow(request, verdict, giveUpAtMs, waitUntil);
    const replayed = counters.length > 0 ? verdict.replayed : shadow?.replayed === true;
    return decisionOf(request, verdict, { id, replayed }, shadow);
  }

  async #consumeInShadow(
    request: ValidConsume,
    verdict: ConsumeVerdict,
    giveUpAtMs: number,
    waitUntil: WaitUntil,
  ): Promise<ShadowVerdict | undefined> {
    const shadow = this.#shadowOf(request, giveUpAtMs);
    if (verdict.allowed) return shadow?.consume(request.id, verdict, waitUntil);
    return verdict.isCached ? shadow?.leaveOut() : shadow?.check();
  }

  /** Corrects the cost of an earlier consume. */
  settle(request: ValidChange): Promise<ChangeDecision> {
    return this.#change(request, "settle");
  }

  /** Ends an earlier consume for concurrent limits: its place in them is free again. */
  release(request: ValidChange): Promise<ChangeDecision> {
    return this.#change(request, "release");
  }

  async #change(request: ValidChange, method: "settle" | "release"): Promise<ChangeDecision> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { id, policy, cost, counters, identity } = request;
    const verdict = await this.#objects(giveUpAtMs)[method]({ id, identity, policy: policy.name, cost, counters });
    // Layers in shadow may know an id for longer than the live layers do.
    const shadow = await this.#shadowOf(request, giveUpAtMs)?.change(method, id);
    if (verdict.found || shadow?.found) return changeDecisionOf(request, verdict, shadow);
    throw new Refusal("unknown-decision", "No decision of this policy and subject in the window has this id.");
  }

  policies(): PolicyList {
    return {
      policies: [...this.config.policies.values()].map(({ name, layers }) => ({
        name,
        layers: layers.map(({ name, by, limits, mode }) => ({
          name,
          by: [...by],
          mode,
          limits: limits.map(limitBody),
        })),
      })),
    };
  }

  clearDenialCache(): void {
    this.denialCache.clear();
  }

  /** The deadline of the whole decision: of its live layers, of those in shadow, and of waiting for a rollback. */
  #giveUpAtMs(): number {
    return this.timing.now() + this.config.deadlineMs;
  }

  /** The objects of the live layers, behind the denial cache and, in a batch, behind the order of the batch. */
  #objects(giveUpAtMs: number): Objects {
    const { batch, config, timing, denialCache } = this;
    const fanOut = new FanOut(this.#calls, config, timing, giveUpAtMs);
    const objects = batch ? new OrderedObjects(fanOut, batch.order, batch.position, giveUpAtMs) : fanOut;
    return new CachedObjects(objects, denialCache, timing, batch?.order);
  }

  /** The layers in shadow, if the policy has any. They have the time that the live layers leave them. */
  #shadowOf(request: ValidRequest, giveUpAtMs: number): Shadow | undefined {
    if (request.policy.shadow.length === 0) return undefined;
    return new Shadow(request, attemptMs(this.config), async (ifUnreachable) => {
      await this.batch?.order.decided(giveUpAtMs);
      return new FanOut(this.#calls, this.config, this.timing, giveUpAtMs, ifUnreachable);
    });
  }

  /** Whether a request is admitted although its decision failed: the objects are unreachable, and the operator wants that. */
  #admits(error: unknown, { onError = this.config.onError }: Policy): boolean {
    return onError === "allow" && error instanceof Refusal && error.kind === "unreachable";
  }
}

/** How long an attempt lasts at most: a deadline for its calls, and another for rolling them back. */
function attemptMs({ deadlineMs }: Config): number {
  return 2 * deadlineMs;
}
