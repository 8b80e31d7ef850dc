import type { Config } from "../config/config";
import { costOfCounters } from "../core/cost";
import type { Policy } from "../core/policy";
import { Asker, type ConsumeVerdict, type WaitUntil } from "../objects/asker";
import { BatchOrder } from "../objects/batch-order";
import type { DecidingStub, ObjectNamespace } from "../objects/binding";
import { Breakers } from "../objects/breakers";
import { CallQueues } from "../objects/call-queue";
import { DirectCalls, type Hearer, hear, heard } from "../objects/calls";
import type { DenialCache } from "../objects/denial-cache";
import { FanOut } from "../objects/fan-out";
import { LiveObjects } from "../objects/live-objects";
import { sharingTimers, type Timing } from "../objects/timing";
import type { IfUnreachable } from "../objects/unreachable";
import type { ValidChange, ValidConsume, ValidRequest } from "../request/read";
import { Refusal } from "../request/refusal";
import type { PolicyList } from "../request/schema";
import { type ChangeDecision, changeDecisionOf, type Decision, decisionOf, degradedDecision } from "./decision";
import { limitBody } from "./decision-body";
import { Shadow } from "./shadow";

/** Is told how consumes were decided, and takes no part in the decisions. Must not throw. */
export interface Watcher {
  /** A consume was decided. */
  onDecision(decision: Decision, waitUntil: WaitUntil): void;
  /** A consume could not be decided, and not by its caller's mistake. */
  onFailure?(policy: Policy, waitUntil: WaitUntil): void;
}

/** Names attempts to charge: no two of an isolate alike, nor, but for chance, of two isolates. */
class Names {
  #prefix: string | undefined;
  #count = 0;

  constructor(private readonly random: () => number) {}

  next(): string {
    this.#prefix ??= this.random().toString(36).slice(2, 9);
    this.#count++;
    return this.#prefix + this.#count;
  }
}

/** Decides requests. HTTP and RPC read them (`request/read.ts`), and translate the decisions. */
export class Limiter {
  readonly #objects: LiveObjects;

  constructor(
    private readonly config: Config,
    private readonly namespace: ObjectNamespace<DecidingStub>,
    private readonly timing: Timing,
    private readonly denialCache: DenialCache,
    private readonly watchers: readonly Watcher[] = [],
    private readonly names = new Names(() => timing.random()),
    private readonly breakers = new Breakers(timing),
    queues?: CallQueues,
  ) {
    const calls = queues ? queues.forBatch() : new DirectCalls(namespace, config, timing, breakers);
    const order = queues && new BatchOrder(config.placement, timing, (keys) => denialCache.invalidate(keys));
    this.#objects = new LiveObjects(new FanOut(calls, config, timing), denialCache, timing, order);
  }

  /** Call queues, one for each object. The decisions of a batch share them, or all batches of a hub. */
  callQueues(): CallQueues {
    return new CallQueues(this.namespace, this.config, sharingTimers(this.timing), this.breakers);
  }

  /** The same limiter, for the decisions of a batch, each by its position. */
  forBatch(queues: CallQueues): Limiter {
    const { config, namespace, denialCache, watchers, names, breakers } = this;
    return new Limiter(config, namespace, queues.timing, denialCache, watchers, names, breakers, queues);
  }

  /** Whether the request would be admitted now. Records nothing, and never uses the denial cache. */
  async check(request: ValidRequest, position = 0): Promise<Decision> {
    const asker = this.#asker(position);
    const { policy, cost, counters } = request;
    try {
      const question = { policy: policy.name, cost: costOfCounters(cost, counters), counters };
      const verdict = await this.#objects.check(question, asker);
      return decisionOf(request, verdict, undefined, await this.#shadowOf(request, asker)?.check());
    } catch (error) {
      if (this.#admits(error, request.policy)) return degradedDecision(request);
      throw error;
    }
  }

  /** Records the request's cost if every limit of every layer admits it. An id is charged once, however often it is sent. */
  consume(request: ValidConsume, waitUntil: WaitUntil, position = 0): Promise<Decision> {
    const deciding = heard<Decision>((hearer) => this.consumeInBatch(request, position, waitUntil, hearer));
    // A caller that hangs up must not leave the charge half rolled back, or uncounted in shadow.
    waitUntil(deciding.catch(() => {}));
    return deciding;
  }

  /** The same without a promise. The caller keeps the batch alive until every hearer was told. */
  consumeInBatch(request: ValidConsume, position: number, waitUntil: WaitUntil, hearer: Hearer<Decision>): void {
    const { id, policy, cost, counters, identity, aliases, isNew } = request;
    const asker = this.#asker(position, waitUntil);
    const question = {
      policy: policy.name,
      cost: costOfCounters(cost, counters),
      counters,
      id,
      identity,
      aliases,
      windowMs: policy.liveWindowMs,
      attemptMs: attemptMs(this.config),
      cacheMs: this.config.denyCacheMs || undefined,
    };
    const decided = (decision: Decision) => {
      for (const watcher of this.watchers) watcher.onDecision(decision, waitUntil);
      hearer.answered(decision);
    };
    const failed = (error: unknown) => {
      if (this.#admits(error, policy)) {
        decided(degradedDecision(request, id));
        return;
      }
      const isCallersMistake = error instanceof Refusal && error.kind !== "unreachable";
      if (!isCallersMistake) for (const watcher of this.watchers) watcher.onFailure?.(policy, waitUntil);
      hearer.failed(error);
    };
    const answered = (verdict: ConsumeVerdict) => {
      const shadow = this.#shadowOf(request, asker);
      if (shadow) hear(consumeInShadow(shadow, request, verdict), { answered: decided, failed });
      else decided(decisionOf(request, verdict, { id, replayed: verdict.replayed }));
    };
    this.#objects.consume(question, isNew, asker, { answered, failed });
  }

  /** Corrects the cost of an earlier consume. */
  settle(request: ValidChange, position = 0): Promise<ChangeDecision> {
    return this.#change(request, "settle", position);
  }

  /** Ends an earlier consume for concurrent limits: its place in them is free again. */
  release(request: ValidChange, position = 0): Promise<ChangeDecision> {
    return this.#change(request, "release", position);
  }

  async #change(request: ValidChange, method: "settle" | "release", position: number): Promise<ChangeDecision> {
    const asker = this.#asker(position);
    const { id, policy, cost, counters, identity } = request;
    const question = { id, identity, policy: policy.name, cost, counters };
    const verdict = await this.#objects.change(method, question, asker);
    // Layers in shadow may know an id for longer than the live layers do. Without live layers, only they know it.
    const ifUnreachable = counters.length > 0 ? "leave out" : "refuse";
    const shadow = await this.#shadowOf(request, asker, ifUnreachable)?.change(method, id);
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

  /** The deadline is that of the whole decision: of its live layers, of those in shadow, and of waiting for a rollback. */
  #asker(position: number, waitUntil?: WaitUntil): Asker {
    const giveUpAtMs = this.timing.now() + this.config.deadlineMs;
    return new Asker(this.names.next(), position, giveUpAtMs, "refuse", waitUntil);
  }

  /** The layers in shadow, if the policy has any. They have the time that the live layers leave them. */
  #shadowOf(
    request: ValidRequest,
    { position, giveUpAtMs, waitUntil }: Asker,
    ifUnreachable: IfUnreachable = "leave out",
  ): Shadow | undefined {
    if (request.policy.shadow.length === 0) return undefined;
    const { fanOut, order } = this.#objects;
    const asker = new Asker(this.names.next(), position, giveUpAtMs, ifUnreachable, waitUntil);
    const liveDecided = async () => order?.decided(giveUpAtMs);
    return new Shadow(request, attemptMs(this.config), fanOut, asker, liveDecided);
  }

  /** Whether a request is admitted although its decision failed: the objects are unreachable, and the operator wants that. */
  #admits(error: unknown, { onError = this.config.onError }: Policy): boolean {
    return onError === "allow" && error instanceof Refusal && error.kind === "unreachable";
  }
}

async function consumeInShadow(shadow: Shadow, request: ValidConsume, verdict: ConsumeVerdict): Promise<Decision> {
  const { id, counters } = request;
  const shadowVerdict = await (verdict.allowed
    ? shadow.consume(id, verdict)
    : verdict.isCached
      ? shadow.leaveOut()
      : shadow.check());
  const replayed = counters.length > 0 ? verdict.replayed : shadowVerdict.replayed;
  return decisionOf(request, verdict, { id, replayed }, shadowVerdict);
}

/** How long an attempt lasts at most: a deadline for its calls, and another for rolling them back. */
function attemptMs({ deadlineMs }: Config): number {
  return 2 * deadlineMs;
}
