import { type Config, readConfig } from "../../src/config/config";
import { Denials } from "../../src/edge/denials";
import { Limiter } from "../../src/edge/limiter";
import type { DecidingStub, ObjectNamespace } from "../../src/edge/objects";
import { readConsume, readRelease, readSettle } from "../../src/edge/request";
import type { Service } from "../../src/edge/service";
import { batch } from "../../src/http/batch";
import { Ledger } from "../../src/object/ledger";
import type { Call, Outcome } from "../../src/object/protocol";
import { Chance } from "../../tools/chance";
import { Disk } from "./disk";
import { Scheduler } from "./scheduler";

/** The address of calls that name no other. */
export const IP = "203.0.113.7";
const START_MS = 1_800_000_000_000;

/**
 * What becomes of a message: it takes its time there and back, is lost on one of these ways, or gets no answer ever. An object that
 * is `gone` is not asked again.
 */
export interface Fate {
  readonly delayMs?: number;
  readonly lost?: "question" | "answer" | "both" | "gone" | undefined;
}

/** The layers of each policy. */
type Policies = Readonly<Record<string, readonly object[]>>;

/** A message to an object, each call of it as its method and its id. */
export interface Message {
  readonly object: string;
  readonly calls: readonly string[];
  readonly isLost: boolean;
}

export interface Answered {
  readonly status: number;
  readonly body: {
    readonly retry_after_seconds?: number | null;
    readonly replayed?: boolean;
    readonly limits?: readonly { readonly key: string; readonly used: number }[];
  };
}

/** The real edge over real ledgers, an object a key, in virtual time, on a network whose every message has its fate. */
export class World implements ObjectNamespace<DecidingStub> {
  readonly scheduler: Scheduler;
  readonly sent: Message[] = [];
  /** What of it arrived, in the order in which it did. */
  readonly received: Message[] = [];
  /** How many messages to one object were ever in flight at once. */
  mostInFlight = 0;
  /** When the last batch was answered. */
  answeredAtMs = 0;
  /** How far an object's clock is ahead. */
  aheadMs = (_object: string): number => 0;
  /** What a call waits for when it has arrived. */
  arrived = async (_object: string, _call: Call): Promise<void> => {};
  /** What becomes of an answer, which may be lost. */
  answered = async (_object: string, _call: Call): Promise<void> => {};
  readonly #inFlight = new Map<string, number>();
  readonly #ledgers = new Map<string, Ledger>();
  #service!: Service;
  #atMs: number | undefined;
  #isRunning = false;

  constructor(
    policies: Policies,
    public fateOf: (object: string, calls: readonly Call[]) => Fate = () => ({}),
    private readonly variables: Record<string, string> = {},
  ) {
    this.scheduler = new Scheduler(new Chance(1));
    this.deploy(policies);
  }

  /** Puts the edge under another configuration, over the same objects. */
  deploy(policies: Policies): void {
    const table = Object.entries(policies).map(([name, layers]) => [name, { layers }]);
    const config: Config = readConfig({ RATE_LIMIT_POLICIES: Object.fromEntries(table), ...this.variables });
    const denials = new Denials(config.denyCacheMs, this.scheduler.now);
    this.#service = { config, limiter: new Limiter(config, this, this.scheduler, denials) } as Service;
  }

  /** Calls from now on are sent at this instant, until another one is named. */
  at(seconds: number): this {
    this.#atMs = START_MS + seconds * 1_000;
    return this;
  }

  getByName(object: string): DecidingStub {
    return { decide: (calls) => this.#send(object, calls) };
  }

  /** What a batch of these is answered. */
  async batch(requests: readonly object[]): Promise<readonly Answered[]> {
    const sent = JSON.parse(JSON.stringify({ requests })) as unknown;
    const { results } = await this.#run(() => batch(sent, this.#service, () => {}));
    return results as readonly Answered[];
  }

  /** What these are answered one after the other, each alone. */
  async singly(requests: readonly object[]): Promise<readonly Answered[]> {
    const answers: Answered[] = [];
    for (const request of requests) answers.push(...(await this.batch([request])));
    return answers;
  }

  /** How a consume ends; of one that is refused, by what. */
  consume(policy: string, user: string | undefined, key?: string, more: object = {}): Promise<string> {
    const { config, limiter } = this.#service;
    const request = readConsume({ policy, subject: { ...(user && { user }), ip: IP, ...more } }, { key }, config);
    return this.#endOf(async () => {
      const { allowed, replayed } = await limiter.consume(request, () => {});
      return allowed ? (replayed ? "replayed" : "admitted") : "denied";
    });
  }

  /** How a settle, at 0, or a release ends. */
  change(op: "settle" | "release", policy: string, user: string, id: string, more: object = {}): Promise<string> {
    const { config, limiter } = this.#service;
    const request = { policy, subject: { user, ip: IP, ...more }, id };
    return this.#endOf(async () => {
      if (op === "settle") await limiter.settle(readSettle({ ...request, cost: 0 }, config));
      else await limiter.release(readRelease(request, config));
      return "done";
    });
  }

  ledger(object: string): Ledger {
    const ledger = this.#ledgers.get(object) ?? new Ledger(new Disk());
    this.#ledgers.set(object, ledger);
    return ledger;
  }

  reset(key: string): void {
    this.ledger(key).forget(key);
  }

  /** What an object has in use of a counter of its key, by a limit of this window. */
  stored(policy: string, layer: string, key: string, windowMs: number, kind?: "concurrent"): number {
    const limits = [{ ...(kind && { kind }), max: 1_000, windowMs }];
    const question = { policy, cost: 1, counters: [{ layer, key, limits }] };
    const [outcome] = this.ledger(key).decide([{ method: "check", question }], this.#nowOf(key));
    if (!outcome || !("answer" in outcome)) throw new Error("no answer");
    return outcome.answer.standings[0]?.[0]?.used ?? Number.NaN;
  }

  /** What is in use of each limit of a subject. */
  async used(policy: string, subject: object): Promise<number[]> {
    const [checked] = await this.batch([{ op: "check", policy, subject }]);
    return (checked?.body.limits ?? []).map(({ used }) => used);
  }

  sentTo(object: string): readonly Message[] {
    return this.sent.filter((message) => message.object === object);
  }

  /** As if nothing had been sent yet. */
  forgetMessages(): void {
    this.sent.length = 0;
    this.received.length = 0;
  }

  async #endOf(work: () => Promise<string>): Promise<string> {
    try {
      return await this.#run(work);
    } catch (error) {
      return (error as { kind: string }).kind;
    }
  }

  /** Lets time pass until it is done; of several at once, and of one that another one waits for, the first does so for all. */
  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isRunning) return work();
    this.#isRunning = true;
    if (this.#atMs !== undefined) this.scheduler.nowMs = this.#atMs;
    try {
      const done = work().finally(() => {
        this.answeredAtMs = this.scheduler.nowMs;
      });
      // It may fail long before time has passed.
      done.catch(() => {});
      await this.scheduler.run();
      return await done;
    } finally {
      this.#isRunning = false;
    }
  }

  #nowOf(object: string): number {
    return this.scheduler.nowMs + this.aheadMs(object);
  }

  async #send(object: string, calls: readonly Call[]): Promise<Outcome[]> {
    const inFlight = (this.#inFlight.get(object) ?? 0) + 1;
    this.#inFlight.set(object, inFlight);
    this.mostInFlight = Math.max(this.mostInFlight, inFlight);
    try {
      return await this.#deliver(object, calls);
    } finally {
      this.#inFlight.set(object, inFlight - 1);
    }
  }

  async #deliver(object: string, calls: readonly Call[]): Promise<Outcome[]> {
    const { delayMs = 1, lost } = this.fateOf(object, calls);
    const message = { object, calls: calls.map(textOf), isLost: lost !== undefined };
    this.sent.push(message);
    await this.scheduler.sleep(delayMs);
    if (lost === "both") return new Promise<never>(() => {});
    if (lost === "gone") throw new Error("The object is gone.");
    if (lost === "question") throw connectionLost();
    this.received.push(message);
    const [call] = calls as [Call];
    await this.arrived(object, call);
    const outcomes = this.ledger(object).decide(JSON.parse(JSON.stringify(calls)) as Call[], this.#nowOf(object));
    await this.answered(object, call);
    await this.scheduler.sleep(delayMs);
    if (lost === "answer") throw connectionLost();
    return JSON.parse(JSON.stringify(outcomes)) as Outcome[];
  }
}

function textOf({ method, question }: Call): string {
  const { id = "" } = "event" in question ? question.event : (question as { readonly id?: string });
  return `${method} ${id}`.trim();
}

export function connectionLost(): Error {
  return Object.assign(new Error("Network connection lost."), { retryable: true });
}
