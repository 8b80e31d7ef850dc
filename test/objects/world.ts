import { type Config, readConfig } from "../../src/config/config";
import { batch } from "../../src/http/batch";
import type { Decision } from "../../src/limiter/decision";
import { Limiter } from "../../src/limiter/limiter";
import type { Call, CallResult } from "../../src/object/protocol";
import type { DecidingStub, ObjectNamespace } from "../../src/objects/binding";
import { DenialCache } from "../../src/objects/denial-cache";
import { readConsume } from "../../src/request/read";
import type { Service } from "../../src/service";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { connectionLost, Ledgers } from "../simulation/ledgers";

/** What happens to a message: it takes `delayMs` on each way; its question or its answer is lost; or it never gets an answer. */
export interface Fate {
  readonly delayMs?: number;
  readonly lost?: "question" | "answer" | "both" | undefined;
}

/** A message to an object, with the method and the id of each call. */
export interface Message {
  readonly object: string;
  readonly calls: readonly string[];
  readonly isLost: boolean;
}

export interface Reply {
  readonly status: number;
  readonly body: {
    readonly retry_after_seconds?: number | null;
    readonly replayed?: boolean;
    readonly allowed?: boolean;
    readonly detail?: string;
    readonly "violated-policies"?: readonly string[];
    readonly would_deny?: boolean;
    readonly limits?: readonly { readonly key: string; readonly used: number }[];
  };
}

/** Batches to the real limiter over real ledgers, an object a key, in virtual time. A test decides the fate of each message. */
export class BatchWorld implements ObjectNamespace<DecidingStub> {
  readonly scheduler: Scheduler;
  readonly sent: Message[] = [];
  /** The messages that reached their object, in the order of arrival. */
  readonly received: Message[] = [];
  /** The highest number of messages that one object had in flight at once. */
  mostInFlight = 0;
  /** When the last batch was answered. */
  repliedAtMs = 0;
  readonly #inFlight = new Map<string, number>();
  readonly #ledgers: Ledgers;
  readonly #service: Service;

  constructor(
    layers: Readonly<Record<string, readonly object[]>>,
    public fateOf: (object: string, calls: readonly Call[]) => Fate = () => ({}),
    variables: Record<string, string> = {},
    /** How many events a counter holds at most. */
    mostEvents?: number,
  ) {
    this.#ledgers = new Ledgers(undefined, mostEvents);
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

  /** The replies to these requests as one batch. */
  async batch(requests: readonly object[]): Promise<readonly Reply[]> {
    const sent = JSON.parse(JSON.stringify({ requests })) as unknown;
    const reply = batch(sent, this.#service, () => {}).finally(() => {
      this.repliedAtMs = this.scheduler.nowMs;
    });
    await this.scheduler.run();
    return (await reply).results as readonly Reply[];
  }

  /** The replies to these requests one after the other, each in a batch of its own. */
  async singly(requests: readonly object[]): Promise<readonly Reply[]> {
    const replies: Reply[] = [];
    for (const request of requests) replies.push(...(await this.batch([request])));
    return replies;
  }

  /** The decision on a consume outside a batch, with an id that the service makes. */
  async consume(request: object): Promise<Decision> {
    const { limiter, config } = this.#service;
    const decision = limiter.consume(readConsume(request, {}, config), () => {});
    // Its failure is for the caller.
    decision.catch(() => {});
    await this.scheduler.run();
    return decision;
  }

  /** Drops all objects from memory. */
  evict(): void {
    this.#ledgers.evict();
  }

  /** How much of each limit of a subject is used. */
  async used(policy: string, subject: object): Promise<number[]> {
    const [checked] = await this.batch([{ op: "check", policy, subject }]);
    return (checked?.body.limits ?? []).map(({ used }) => used);
  }

  sentTo(object: string): readonly Message[] {
    return this.sent.filter((message) => message.object === object);
  }

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
    const results = this.#ledgers.decide(object, calls, this.scheduler.nowMs);
    await this.scheduler.sleep(delayMs);
    if (lost === "answer") throw connectionLost();
    return results;
  }
}

function textOf({ method, question }: Call): string {
  const { id = "" } = question as { readonly id?: string };
  return `${method} ${id}`.trim();
}
