import type { Config } from "../config/config";
import { layersIn, longestWindowOfMs } from "../core/policy";
import type { ChargeAnswer, Question } from "../object/protocol";
import { BatchOrder } from "./batch-order";
import { CallQueues } from "./call-queue";
import { DirectCalls, type ObjectCalls } from "./calls";
import type { Counts } from "./counts";
import { sharingTimers, type Timing } from "./deadline";
import { type Changed, changed, type Decided, decided, degraded, type GivenAnswer, limitBody } from "./decision";
import type { DenialLog } from "./denial-log";
import type { Denials, Recalled } from "./denials";
import { FanOut, type IfSilent, type WaitUntil } from "./fan-out";
import type { DecidingStub, ObjectNamespace } from "./objects";
import { Refusal } from "./refusal";
import type { Asked, AskedById, AskedToConsume } from "./request";
import type { PolicyList } from "./schema";
import { Shadow, type ShadowAnswer } from "./shadow";

/** How often, and for how long each time, a request waits for what another one learns. */
const MOST_WAITS = 10;
const WAIT_MS = 5;

/** Of a denial that charged nothing. */
const DENIED = { replayed: false, conflicts: false, charged: false };

/** Those who are told of decisions, and have no part in them. */
export interface Watchers {
  readonly counts?: Counts | undefined;
  readonly denialLog?: DenialLog | undefined;
}

/** Where a decision stands in a batch. */
interface PlaceInBatch {
  readonly position: number;
  readonly order: BatchOrder;
  readonly calls: ObjectCalls;
}

/** What the service decides, whoever asks: HTTP and RPC only read requests (`request.ts`) and translate answers. */
export class Limiter {
  readonly #calls: ObjectCalls;

  constructor(
    private readonly config: Config,
    private readonly namespace: ObjectNamespace<DecidingStub>,
    private readonly timing: Timing,
    private readonly denials: Denials,
    private readonly watchers: Watchers = {},
    private readonly batched?: PlaceInBatch,
  ) {
    this.#calls = batched?.calls ?? new DirectCalls(namespace, config, timing);
  }

  /** The same limiter, for the decision at each position of one batch: they share a queue of calls for each object. */
  forBatch(): (position: number) => Limiter {
    const { namespace, config, denials, watchers } = this;
    const timing = sharingTimers(this.timing);
    const queues = new CallQueues(namespace, config, timing);
    const order = new BatchOrder(config.placement, timing, (keys) => denials.doubt(keys));
    const placeAt = (position: number) => ({ position, order, calls: queues.at(position) });
    return (position) => new Limiter(config, namespace, timing, denials, watchers, placeAt(position));
  }

  /** Would this request be admitted now? Records nothing. The objects are always asked. */
  async check(asked: Asked): Promise<Decided> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { policy, cost, counters } = asked;
    const question = { policy: policy.name, cost, counters };
    const decision = async () => {
      const objects = this.#objects(giveUpAtMs);
      const ask = () => objects.check(question);
      const { batched } = this;
      const answer = await (batched ? batched.order.check(batched.position, question, giveUpAtMs, ask) : ask());
      return decided(asked, answer, undefined, await this.#shadowOf(asked, giveUpAtMs)?.check());
    };
    return this.#orOnError(decision(), () => degraded(asked));
  }

  /** Records the request's cost if every limit of every layer admits it; once, however often the same key is sent. */
  async consume(asked: AskedToConsume, waitUntil: WaitUntil): Promise<Decided> {
    const { counts, denialLog } = this.watchers;
    try {
      const decided = await this.#consume(asked, waitUntil);
      counts?.decided(decided, waitUntil);
      denialLog?.decided(decided, waitUntil);
      return decided;
    } catch (error) {
      // Of the others nothing was to be decided: the request itself was wrong.
      if (!(error instanceof Refusal) || error.kind === "unreachable") counts?.failed(asked.policy, waitUntil);
      throw error;
    }
  }

  #consume(asked: AskedToConsume, waitUntil: WaitUntil): Promise<Decided> {
    const decision = this.#decide(asked, waitUntil);
    // A caller that hangs up is counted in shadow too.
    if (asked.shadow.length > 0) waitUntil(decision.catch(() => {}));
    return this.#orOnError(decision, () => degraded(asked, asked.id));
  }

  async #decide(asked: AskedToConsume, waitUntil: WaitUntil): Promise<Decided> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { id, counters } = asked;
    const answer = await this.#charge(asked, giveUpAtMs, waitUntil);
    const shadow = this.#shadowOf(asked, giveUpAtMs);
    let inShadow: ShadowAnswer | undefined;
    if (answer.allowed) inShadow = await shadow?.consume(id, answer, waitUntil);
    else inShadow = answer.isRemembered ? shadow?.unasked() : await shadow?.check();
    const replayed = counters.length > 0 ? answer.replayed : inShadow?.replayed === true;
    return decided(asked, answer, { id, replayed }, inShadow);
  }

  /** What the live layers say, or have said: then their objects are not asked. */
  async #charge(asked: AskedToConsume, giveUpAtMs: number, waitUntil: WaitUntil): Promise<ChargeAnswer & GivenAnswer> {
    const { id, policy, cost, counters, identity: subject, aliases, isNew } = asked;
    const keepMs = longestWindowOfMs(layersIn("live", policy));
    const identified = { id, subject, aliases, keepMs, youngMs: youngMs(this.config) };
    const believeMs = this.config.denyCacheMs || undefined;
    const charge = { ...identified, policy: policy.name, cost, counters, believeMs };
    let known = this.#recall(charge, isNew);
    // Calls of a batch keep their order where they meet: they do not wait here.
    if (known === "soon" && !this.batched) known = await this.#recallSoon(charge);
    if (typeof known === "object") return { ...DENIED, ...known, isRemembered: true };
    const objects = this.#objects(giveUpAtMs);
    const ask = async (isLikelyDenied: boolean) => {
      // What is denied most likely need not be charged by some objects, and put back there.
      const checked = isLikelyDenied && (await objects.check({ policy: policy.name, cost, counters, believeMs }));
      if (checked && !checked.allowed) return { ...DENIED, ...checked };
      return objects.consume(charge, waitUntil);
    };
    const { batched } = this;
    return this.denials.learning(charge, () =>
      batched ? batched.order.consume(batched.position, charge, giveUpAtMs, ask) : ask(known !== undefined),
    );
  }

  /** Whether an id was admitted before, only the objects know. */
  #recall(charge: Question, isNew: boolean): Recalled | undefined {
    if (!isNew) return undefined;
    // What a batch has asked about a key comes before whatever was denied by it.
    const isMet = this.batched?.order.isMet(charge.counters.map(({ key }) => key));
    return isMet ? undefined : this.denials.recall(charge);
  }

  /** Of a flood, one asks the objects again when their denial has lapsed. The rest wait a moment for what it learns. */
  async #recallSoon(charge: Question): Promise<Recalled | undefined> {
    let known: Recalled | undefined = "soon";
    for (let waits = 0; waits < MOST_WAITS && known === "soon"; waits++) {
      // By a timer of its own: the runtime cancels requests that wait for a promise of another one.
      await new Promise<void>((resolve) => void this.timing.after(WAIT_MS, resolve));
      known = this.denials.recall(charge);
    }
    return known;
  }

  /** Corrects the cost of an earlier consume. */
  settle(asked: AskedById): Promise<Changed> {
    return this.#change(asked, "settle");
  }

  /** Says that what an earlier consume was for is over, and gives back its place in limits on what is under way. */
  release(asked: AskedById): Promise<Changed> {
    return this.#change(asked, "release");
  }

  /** Changes an earlier consume, which may make room. */
  async #change(asked: AskedById, method: "settle" | "release"): Promise<Changed> {
    const giveUpAtMs = this.#giveUpAtMs();
    const { id, policy, cost, counters, identity: subject } = asked;
    const question = { id, subject, policy: policy.name, cost, counters };
    const keys = counters.map(({ key }) => key);
    // Before too, for what comes after it in a batch.
    this.denials.doubt(keys);
    const objects = this.#objects(giveUpAtMs);
    const ask = () => objects[method](question);
    const { batched } = this;
    const change = batched ? batched.order.change(batched.position, question, giveUpAtMs, ask) : ask();
    // Also when the answer is lost: it may have been done.
    const answer = await change.finally(() => this.denials.doubt(keys));
    // They may remember an id for longer than the live layers do.
    const inShadow = await this.#shadowOf(asked, giveUpAtMs)?.change(method, id);
    if (answer.found || inShadow?.found) return changed(asked, answer, inShadow);
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

  /** Asks the objects again about everything that they have denied. */
  forgetDenials(): void {
    this.denials.forgetAll();
  }

  /** A decision is answered by then, whatever it has to ask: its live layers, those in shadow, and what is rolled back. */
  #giveUpAtMs(): number {
    return this.timing.now() + this.config.deadlineMs;
  }

  #objects(giveUpAtMs: number, ifSilent?: IfSilent): FanOut {
    return new FanOut(this.#calls, this.config, this.timing, giveUpAtMs, ifSilent);
  }

  /** The layers in shadow, if the policy has any. They have what time the live ones leave them. */
  #shadowOf(asked: Asked, giveUpAtMs: number): Shadow | undefined {
    if (layersIn("shadow", asked.policy).length === 0) return undefined;
    return new Shadow(asked, youngMs(this.config), async (ifSilent) => {
      await this.batched?.order.decided(giveUpAtMs);
      return this.#objects(giveUpAtMs, ifSilent);
    });
  }

  async #orOnError(decision: Promise<Decided>, admitted: () => Decided): Promise<Decided> {
    try {
      return await decision;
    } catch (error) {
      if (this.config.onError === "allow" && error instanceof Refusal && error.kind === "unreachable")
        return admitted();
      throw error;
    }
  }
}

/** For so long an attempt is made at most: its calls, and what puts it back. */
function youngMs({ deadlineMs }: Config): number {
  return 2 * deadlineMs;
}
