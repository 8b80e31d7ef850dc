import type { Config } from "../../src/config/config";
import type { Cost } from "../../src/core/cost";
import { liveLimits } from "../../src/limiter/decision";
import type { Limiter } from "../../src/limiter/limiter";
import { readInlineCheck, readInlineConsume, readInlineRelease, readInlineSettle } from "../../src/request/inline";
import { readCheck, readConsume, readRelease, readSettle, type ValidRequest } from "../../src/request/read";
import { Refusal } from "../../src/request/refusal";
import type { Chance } from "../../tools/chance";
import { groupBy } from "../../tools/group-by";
import type { Scheduler } from "../../tools/scheduler";
import type { CallerCall, Outcome } from "./admissions";
import { costFor } from "./costs";
import type { Hub, Hubs } from "./hubs";
import type { Network } from "./network";
import { type AnsweredCall, type BatchPosition, eventNameOf } from "./record";
import type { Isolate } from "./system";

export type Range = readonly [least: number, most: number];

/** How callers behave. Shares are from 0 to 1. */
export interface Habits {
  /** How many requests a caller has. */
  readonly requests: Range;
  /** The share of requests that are batches, and how many calls a batch has. */
  readonly batchShare: number;
  /** The share of batches that are messages of sessions, and so decided by a hub. */
  readonly hubShare: number;
  readonly batchSize: Range;
  /** The share of requests that reuse an earlier id, mostly around the instant at which it is forgotten. */
  readonly returnShare: number;
  /** How many ids of a caller are reused at most. */
  readonly mostReturning: number;
  /** The share of requests that name limits of their own, and those limits. */
  readonly inlineShare: number;
  readonly inlineLimits: readonly (readonly string[])[];
  /** The share of requests that are followed by a burst of similar requests, and how many a burst has. */
  readonly burstShare: number;
  readonly burstSize: Range;
  readonly users: number;
  /** Costs are from 1 to this, or from 0 where they are by layer. */
  readonly mostCost: number;
  /** The share of requests with a cost by layer. */
  readonly byLayerShare: number;
  /** The share of requests before which the caller rests for long, and how long at most. */
  readonly restShare: number;
  readonly restMs: number;
}

interface InlineLayer {
  readonly name: string;
  readonly key: string;
  readonly limits: readonly string[] | undefined;
}

interface Subject {
  readonly user?: string;
  readonly ip: string;
}

/** What a caller wants to consume under one id, however many calls that takes. */
interface Intent {
  readonly id: string;
  /** A subject of a policy, or layers that the caller names inline. */
  readonly countedBy:
    | { readonly policy: string; readonly subject: Subject }
    | { readonly layers: readonly InlineLayer[] };
  readonly cost: Cost;
  /** The cost of a settle, if there is one. The same in every settle, since the last settle to arrive wins. */
  readonly settledCost: Cost;
}

interface CallToSend {
  readonly op: AnsweredCall["op"];
  readonly intent: Intent;
  readonly request: AnsweredCall["request"];
}

/** Callers with requests of their own: one by one, in several concurrent calls, and in batches. */
export class Callers {
  /** The calls that got a decision, as the judge of both sides needs them. */
  readonly answered: AnsweredCall[] = [];
  /** Calls that a hub decided after it had died. Their denials were cached when the live layers had answered, before it died. */
  readonly unheard: AnsweredCall[] = [];
  /** All calls but checks, as the judge of the callers' side needs them. */
  readonly calls: CallerCall[] = [];

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly hubs: Hubs,
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    private readonly habits: Habits,
  ) {}

  async run(name: number, requests: number): Promise<void> {
    const { chance, scheduler, habits } = this;
    const admitted: Intent[] = [];
    const used: Intent[] = [];
    for (let i = 0; i < requests; i++) {
      const id = `${name}-${i}`;
      const returning = chance.is(habits.returnShare)
        ? used[chance.below(Math.min(habits.mostReturning, used.length))]
        : undefined;
      if (returning) await this.#reuseId(returning, `${id}-beside`);
      else {
        await scheduler.sleep(chance.below(chance.is(habits.restShare) ? habits.restMs : 400));
        if (chance.is(habits.batchShare)) used.push(...(await this.#batch(id, admitted)));
        else used.push(await this.#single(this.#newIntent(id), admitted));
      }
      const last = used.at(-1);
      if (last && chance.is(habits.burstShare)) await this.#burst(last, id);
    }
  }

  /** Sends the same ids round after round, after their window has passed, among many ids that are used once. */
  async runJobs(rounds: number): Promise<void> {
    const { chance, scheduler } = this;
    const jobs = Array.from({ length: 14 }, (_, i) => this.#job(`job-${i}`));
    for (let round = 0; round < rounds; round++) {
      const intents = Array.from({ length: 100 }, (_, i) => jobs[i] ?? this.#job(`${round}-${i}`));
      for (let i = intents.length; i > 1; ) intents.push(...intents.splice(chance.below(i--), 1));
      const again = chance.of([(job: Intent) => this.#consume(job, 2), (job: Intent) => this.#settle(job)]);
      await this.#sendBatch(
        `${round}`,
        intents.map((intent) => this.#consume(intent, 2)),
      );
      await this.#sendBatch(`${round} again`, jobs.map(again));
      await scheduler.sleep(1_500 + chance.below(10_000));
    }
  }

  #job(id: string): Intent {
    return { id, countedBy: { policy: "small", subject: { user: "u0", ip: "10.0.0.0" } }, cost: 1, settledCost: 0 };
  }

  /** Sends one intent in up to three calls, then perhaps settles or releases it. */
  async #single(intent: Intent, admitted: Intent[]): Promise<Intent> {
    const { chance, scheduler } = this;
    if (chance.is(0.15)) await this.#send(this.#check(intent));
    const attempts = 1 + chance.below(3);
    const inFlight: Promise<boolean>[] = [];
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const isAnswered = this.#send(this.#consume(intent, attempt));
      inFlight.push(isAnswered);
      // Some callers wait for the answer, some hang up and retry, some do not wait at all.
      if (chance.is(0.5)) await Promise.race([isAnswered, scheduler.sleep(chance.below(100))]);
      else if (chance.is(0.7) && (await isAnswered)) break;
    }
    await Promise.all(inFlight);
    if (!this.#isAdmitted(intent)) return intent;
    if (chance.is(0.5)) {
      admitted.push(intent);
      return intent;
    }
    if (chance.is(0.5)) await this.#repeat(() => this.#settle(intent));
    if (chance.is(0.7)) await this.#repeat(() => this.#release(intent));
    // A late retry of a decision that the caller has finished.
    if (chance.is(0.2)) await this.#send(this.#consume(this.#perhapsAtOtherCost(intent, 0.2), attempts + 1));
    return intent;
  }

  /**
   * Sends the same id again, around the instant at which it is forgotten, or before. Another subject that shares a key may
   * then send at once, or when the id's first charge has left a window.
   */
  async #reuseId(intent: Intent, besideId: string): Promise<void> {
    const { chance, scheduler } = this;
    const calls = this.calls.filter(({ decisionName }) => decisionName === decisionNameOf(intent));
    const call = chance.of([calls.at(-1), calls[0]]);
    const windows = this.#check(intent).request.policy.layers.flatMap(({ limits }) =>
      limits.map(({ windowMs }) => windowMs),
    );
    const windowMs = Math.max(...windows);
    const leavesMs = (calls[0]?.sentAtMs ?? scheduler.nowMs) + chance.of(windows);
    const edgeMs = (chance.is(0.8) ? call?.sentAtMs : call?.endedAtMs) ?? scheduler.nowMs;
    const nearMs = chance.is(0.7) ? chance.below(30) - 15 : chance.below(chance.of([600, 3_000]));
    const isEarly = chance.is(call?.outcome === "denied" ? 0.6 : 0.15);
    await scheduler.sleep(isEarly ? chance.below(windowMs) : edgeMs + windowMs + nearMs - scheduler.nowMs);
    await this.#send(this.#consume(this.#perhapsAtOtherCost(intent, 0.05), 2));
    if (chance.is(0.8)) {
      await scheduler.sleep(chance.of([0, 0, chance.below(30), leavesMs + chance.below(60) - scheduler.nowMs]));
      await this.#send(this.#consume(this.#neighbour(intent, besideId), 1));
    }
    if (chance.is(0.2))
      await this.#repeat(() => chance.of([() => this.#settle(intent), () => this.#release(intent)])());
  }

  /** An intent that shares a key with this one. */
  #neighbour({ countedBy, ...intent }: Intent, id: string): Intent {
    if ("layers" in countedBy) return { ...intent, countedBy, id };
    const other = this.#subject();
    const subject = this.chance.is(0.5)
      ? { ...other, ip: countedBy.subject.ip }
      : { ...countedBy.subject, ip: other.ip };
    return { ...intent, countedBy: { ...countedBy, subject }, id };
  }

  /** Sends many requests at once that count by the keys of the first. */
  async #burst(first: Intent, name: string): Promise<void> {
    const { chance, habits } = this;
    const size = numberIn(habits.burstSize, chance);
    const intents = Array.from({ length: size }, (_, i) => ({ ...first, id: `${name}-like-${i}`, cost: 1 }));
    if ("layers" in first.countedBy) await Promise.all(intents.map((intent) => this.#send(this.#consume(intent, 2))));
    else
      await this.#sendBatch(
        `${name} burst`,
        intents.map((intent) => this.#consume(intent, 2)),
      );
  }

  /** Sends a call until it is acknowledged, at most six times, and sometimes once more. */
  async #repeat(nextCall: () => CallToSend): Promise<void> {
    for (let tries = 0; tries < 6; tries++) if ((await this.#send(nextCall())) && this.chance.is(0.7)) return;
  }

  /** Sends a batch, and retries the whole batch or its unanswered calls. */
  async #batch(name: string, admitted: Intent[]): Promise<Intent[]> {
    const { chance } = this;
    const intents: Intent[] = [];
    const callsOf = Array.from({ length: numberIn(this.habits.batchSize, chance) }, (_, i) => {
      const earlier = admitted[chance.below(admitted.length)];
      if (earlier && chance.is(0.2)) return () => this.#settle(earlier);
      if (earlier && chance.is(0.3)) return () => this.#release(earlier);
      if (chance.is(0.15)) return () => this.#check(this.#newIntent("", 0));
      const sibling = intents[chance.below(intents.length)];
      if (sibling && chance.is(0.1)) return () => this.#settle(sibling);
      const isRepeated = sibling !== undefined && chance.is(0.15);
      const intent = isRepeated ? sibling : this.#newIntent(`${name}-${i}`, 0);
      if (!isRepeated) intents.push(intent);
      return (attempt: number) => this.#consume(intent, isRepeated ? attempt + 1 : attempt);
    });
    for (let attempt = 1, left = callsOf; attempt <= 3 && left.length > 0; attempt++) {
      const isAnswered = await this.#sendBatch(
        `${name} ${attempt}`,
        left.map((callOf) => callOf(attempt)),
        attempt === 1,
      );
      if (chance.is(0.7)) left = left.filter((_, i) => !isAnswered[i]);
    }
    admitted.push(...intents.filter((intent) => this.#isAdmitted(intent)));
    return intents;
  }

  /** Resolves with whether each call was answered. */
  #sendBatch(batch: string, toSend: readonly CallToSend[], isFirst = true): Promise<boolean[]> {
    const hub = this.chance.is(this.habits.hubShare) ? this.hubs.next() : undefined;
    const { limiter, number } = hub?.isolate ?? this.chance.of(this.isolates);
    const queues = hub?.queues ?? limiter.callQueues();
    const inBatch = limiter.forBatch(queues);
    const alike = groupBy(toSend, ({ op, request }) => `${op} ${eventNameOf(request)}`);
    const isOnly = ({ op, request }: CallToSend) => alike.get(`${op} ${eventNameOf(request)}`)?.length === 1;
    const sending = queues.begin(() =>
      toSend.map((call, index) =>
        this.#sendTo(call, inBatch, number, { batch, index, isFirst: isFirst && isOnly(call) }, hub),
      ),
    );
    return Promise.all(sending);
  }

  #send(call: CallToSend): Promise<boolean> {
    const { limiter, number } = this.chance.of(this.isolates);
    return this.#sendTo(call, limiter, number);
  }

  /** Resolves with whether the caller got an answer that settles the matter. */
  async #sendTo(
    call: CallToSend,
    limiter: Limiter,
    isolate: number,
    batchPosition?: BatchPosition,
    hub?: Hub,
  ): Promise<boolean> {
    const { scheduler, network } = this;
    const { op, request } = call;
    const sentAtMs = scheduler.nowMs;
    const executionsBefore = network.executions.length;
    const decided = decide(call, limiter, batchPosition?.index);
    const answeredNow = (decision: AnsweredCall["decision"]): AnsweredCall => {
      const [answeredAtMs, executionsAfter] = [scheduler.nowMs, network.executions.length];
      const span = { sentAtMs, answeredAtMs, executionsBefore, executionsAfter };
      return { op, isolate, request, decision, ...span, ...(batchPosition && { batchPosition }) };
    };
    try {
      const decision = await (hub ? hub.answered(decided) : decided);
      this.answered.push(answeredNow(decision));
      this.#note(call, sentAtMs, outcomeOf(op, decision), decision);
      return true;
    } catch (error) {
      decided.then(
        (decision) => this.unheard.push(answeredNow(decision)),
        () => {},
      );
      // Refusals that a history may run into: an id may be forgotten, or be in use with another cost.
      const outcome = error instanceof Refusal ? OUTCOMES.get(error.kind) : undefined;
      if (!outcome) throw error;
      this.#note(call, sentAtMs, outcome);
      return outcome === "reused id";
    }
  }

  #note(
    { op, intent, request }: CallToSend,
    sentAtMs: number,
    outcome: Outcome,
    decision?: AnsweredCall["decision"],
  ): void {
    if (op === "check") return;
    const { counters, policy, shadow } = request;
    // As the caller means it, and not as the service reads it.
    const cost = op === "settle" ? intent.settledCost : intent.cost;
    const about = { op, policy: policy.name, decisionName: decisionNameOf(intent), hasShadow: shadow.length > 0 };
    const standings = (decision ? liveLimits(decision) : []).flatMap(({ layer, key, limit, standing }) =>
      limit.kind || costFor(cost, layer) === 0
        ? []
        : { layer, key, windowMs: limit.windowMs, resetsInMs: standing.resetsInMs },
    );
    this.calls.push({ ...about, cost, counters, sentAtMs, endedAtMs: this.scheduler.nowMs, outcome, standings });
  }

  #newIntent(id: string, inlineShare = this.habits.inlineShare): Intent {
    const { chance, habits } = this;
    if (chance.is(inlineShare)) {
      const which = chance.below(habits.inlineLimits.length);
      const keys = chance.of([["k0"], ["k0"], ["k1"], ["k0", "k1"]]);
      const layers = keys.map((key, i) => ({ name: `login${i}`, key, limits: habits.inlineLimits[which] }));
      return this.#withCosts({ id, countedBy: { layers } });
    }
    return this.#withCosts({ id, countedBy: { policy: "small", subject: this.#subject() } });
  }

  #layersOf(countedBy: Intent["countedBy"]): string[] {
    if ("layers" in countedBy) return countedBy.layers.map(({ name }) => name);
    return this.config.policies.get(countedBy.policy)?.layers.map(({ name }) => name) ?? [];
  }

  #withCosts(intent: Pick<Intent, "id" | "countedBy">): Intent {
    const { chance, habits } = this;
    const layers = this.#layersOf(intent.countedBy);
    const isByLayer = chance.is(habits.byLayerShare);
    return {
      ...intent,
      cost: isByLayer ? this.#byLayer(layers, 1 + habits.mostCost) : 1 + chance.below(habits.mostCost),
      settledCost: isByLayer && chance.is(0.7) ? this.#byLayer(layers, 6) : chance.below(6),
    };
  }

  /** Costs below `bound` of some of the layers. */
  #byLayer(layers: readonly string[], bound: number): Cost {
    const { chance } = this;
    const named = layers.filter(() => chance.is(0.7));
    return Object.fromEntries(named.map((layer) => [layer, chance.is(0.3) ? 0 : chance.below(bound)]));
  }

  /** A careless caller uses an id with another cost. */
  #perhapsAtOtherCost(intent: Intent, share: number): Intent {
    return this.chance.is(share) ? { ...intent, cost: this.#otherCost(intent) } : intent;
  }

  /** Another cost, mostly in one layer only. */
  #otherCost({ countedBy, cost }: Intent): Cost {
    const { chance, habits } = this;
    if (typeof cost === "number" && chance.is(0.5)) return (cost % habits.mostCost) + 1;
    const layers = this.#layersOf(countedBy);
    const other = chance.of(layers);
    const same = (layer: string): [string, number] => [layer, costFor(cost, layer)];
    return { ...Object.fromEntries(layers.map(same)), [other]: (costFor(cost, other) + 1) % (habits.mostCost + 1) };
  }

  /** The same cost, perhaps spelt by layer. */
  #spelt({ countedBy, cost }: Intent): Cost {
    if (typeof cost !== "number" || !this.chance.is(this.habits.byLayerShare / 4)) return cost;
    return Object.fromEntries(this.#layersOf(countedBy).map((layer) => [layer, cost]));
  }

  #subject(): Subject {
    const { chance, habits } = this;
    const ip = `10.0.0.${chance.below(2)}`;
    return chance.is(0.6) ? { user: `u${chance.below(habits.users)}`, ip } : { ip };
  }

  #check(intent: Intent): CallToSend {
    const { countedBy } = intent;
    const cost = this.#spelt(intent);
    const request: ValidRequest =
      "layers" in countedBy ? readInlineCheck({ ...countedBy, cost }) : readCheck({ ...countedBy, cost }, this.config);
    return { op: "check", intent, request: { ...request, id: "" } };
  }

  /** Some callers send no attempt number. */
  #consume(intent: Intent, attempt: number): CallToSend {
    const { id, countedBy } = intent;
    const cost = this.#spelt(intent);
    const idempotency = { key: id, ...(this.chance.is(0.7) && { attempt }) };
    const request =
      "layers" in countedBy
        ? readInlineConsume({ ...countedBy, cost }, idempotency)
        : readConsume({ ...countedBy, cost }, idempotency, this.config);
    return { op: "consume", intent, request };
  }

  #settle(intent: Intent): CallToSend {
    const { id, countedBy, settledCost: cost } = intent;
    const body = { ...countedBy, id, cost };
    const request = "layers" in countedBy ? readInlineSettle(body) : readSettle(body, this.config);
    return { op: "settle", intent, request };
  }

  #release(intent: Intent): CallToSend {
    const { id, countedBy } = intent;
    const body = { ...countedBy, id };
    const request = "layers" in countedBy ? readInlineRelease(body) : readRelease(body, this.config);
    return { op: "release", intent, request };
  }

  #isAdmitted(intent: Intent): boolean {
    const decisionName = decisionNameOf(intent);
    return this.calls.some(
      (call) => call.decisionName === decisionName && (call.outcome === "admitted" || call.outcome === "replayed"),
    );
  }
}

/** A number of the range, by chance. */
export function numberIn([least, most]: Range, chance: Chance): number {
  return least + chance.below(most - least + 1);
}

/** The outcomes of refused calls, by the kind of the refusal. */
async function decide(
  { op, request }: CallToSend,
  limiter: Limiter,
  position?: number,
): Promise<AnsweredCall["decision"]> {
  if (op === "check") return limiter.check(request, position);
  if (op === "settle" || op === "release")
    return { allowed: true, replayed: false, ...(await limiter[op](request, position)) };
  return limiter.consume({ ...request, isNew: request.isNew ?? false, aliases: [] }, () => {}, position);
}

const OUTCOMES = new Map<string, Outcome>([
  ["unreachable", "unreachable"],
  ["unknown-decision", "unknown decision"],
  ["reused-id", "reused id"],
]);

function outcomeOf(op: AnsweredCall["op"], { allowed, replayed }: AnsweredCall["decision"]): Outcome {
  if (op !== "consume") return "changed";
  if (!allowed) return "denied";
  return replayed ? "replayed" : "admitted";
}

/** Names the decision as its caller does, not as the service does. */
function decisionNameOf({ id, countedBy }: Intent): string {
  if ("policy" in countedBy) return `${countedBy.policy} ${JSON.stringify(countedBy.subject)} ${id}`;
  return `inline ${JSON.stringify(countedBy.layers)} ${id}`;
}
