import { type Config, readConfig } from "../../src/config/config";
import { batch } from "../../src/http/batch";
import { Limiter } from "../../src/limiter/limiter";
import { Ledger } from "../../src/object/ledger";
import type { Call, CallResult } from "../../src/object/protocol";
import type { DecidingStub, ObjectNamespace } from "../../src/objects/binding";
import { DenialCache } from "../../src/objects/denial-cache";
import type { Service } from "../../src/service";
import { Chance } from "../../tools/chance";
import { Disk } from "../simulation/disk";
import { Scheduler } from "../simulation/scheduler";

/** What becomes of a message: it takes its time there and back, is lost on one of these ways, or gets no answer ever. */
export interface Fate {
  readonly delayMs?: number;
  readonly lost?: "question" | "answer" | "both" | undefined;
}

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
  readonly #inFlight = new Map<string, number>();
  readonly #ledgers = new Map<string, Ledger>();
  readonly #service: Service;

  constructor(
    layers: Readonly<Record<string, readonly object[]>>,
    public fateOf: (object: string, calls: readonly Call[]) => Fate = () => ({}),
    variables: Record<string, string> = {},
  ) {
    this.scheduler = new Scheduler(new Chance(1));
    const policies = Object.entries(layers).map(([name, layers]) => [name, { layers }]);
    const config: Config = readConfig({ RATE_LIMIT_POLICIES: Object.fromEntries(policies), ...variables });
    const denials = new DenialCache(config.denyCacheMs, this.scheduler.now);
    const limiter = new Limiter(config, this, this.scheduler, denials);
    this.#service = { config, limiter } as Service;
  }

  getByName(object: string): DecidingStub {
    return { decide: (calls) => this.#send(object, calls) };
  }

  /** What a batch of these is answered. */
  async batch(requests: readonly object[]): Promise<readonly Answered[]> {
    const sent = JSON.parse(JSON.stringify({ requests })) as unknown;
    const answer = batch(sent, this.#service, () => {}).finally(() => {
      this.answeredAtMs = this.scheduler.nowMs;
    });
    await this.scheduler.run();
    return (await answer).results as readonly Answered[];
  }

  /** What these are answered one after the other, each alone. */
  async singly(requests: readonly object[]): Promise<readonly Answered[]> {
    const answers: Answered[] = [];
    for (const request of requests) answers.push(...(await this.batch([request])));
    return answers;
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

  async #send(object: string, calls: readonly Call[]): Promise<CallResult[]> {
    const inFlight = (this.#inFlight.get(object) ?? 0) + 1;
    this.#inFlight.set(object, inFlight);
    this.mostInFlight = Math.max(this.mostInFlight, inFlight);
    try {
      return await this.#deliver(object, calls);
    } finally {
      this.#inFlight.set(object, inFlight - 1);
    }
  }

  async #deliver(object: string, calls: readonly Call[]): Promise<CallResult[]> {
    const { delayMs = 1, lost } = this.fateOf(object, calls);
    const message = { object, calls: calls.map(textOf), isLost: lost !== undefined };
    this.sent.push(message);
    await this.scheduler.sleep(delayMs);
    if (lost === "both") return new Promise<never>(() => {});
    if (lost === "question") throw connectionLost();
    this.received.push(message);
    const ledger = this.#ledgers.get(object) ?? new Ledger(new Disk());
    this.#ledgers.set(object, ledger);
    const outcomes = ledger.decide(JSON.parse(JSON.stringify(calls)) as Call[], this.scheduler.nowMs);
    await this.scheduler.sleep(delayMs);
    if (lost === "answer") throw connectionLost();
    return JSON.parse(JSON.stringify(outcomes)) as CallResult[];
  }
}

function textOf({ method, question }: Call): string {
  const { id = "" } = question as { readonly id?: string };
  return `${method} ${id}`.trim();
}

function connectionLost(): Error {
  return Object.assign(new Error("Network connection lost."), { retryable: true });
}
