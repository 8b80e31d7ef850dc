import type { Config } from "../../src/config/config";
import type { ObjectNamespace } from "../../src/objects/binding";
import type { CallQueues } from "../../src/objects/call-queue";
import { Refusal } from "../../src/request/refusal";
import type { Chance } from "../../tools/chance";
import type { Scheduler } from "../../tools/scheduler";
import { type Isolate, newIsolate } from "./system";

const NO_ANSWER = new Promise<never>(() => {});

/**
 * A hub, in which sessions end: their batches share its call queues. It dies at some time, with everything in flight: no
 * call leaves it any more, not even one that would roll back, and its callers are not answered.
 */
export class Hub {
  readonly isolate: Isolate;
  readonly queues: CallQueues;
  #isDead = false;
  #die: (reason: Refusal) => void = () => {};
  /** Rejects when the hub dies. */
  readonly #death = new Promise<never>((_, reject) => {
    this.#die = reject;
  });

  constructor(number: number, config: Config, objects: ObjectNamespace, scheduler: Scheduler, offsetMs: number) {
    const mortal: ObjectNamespace = {
      getByName: (name, options) => {
        const stub = objects.getByName(name, options);
        return { ...stub, decide: (calls) => (this.#isDead ? NO_ANSWER : stub.decide(calls)) };
      },
    };
    this.isolate = newIsolate(number, config, mortal, scheduler, offsetMs);
    this.queues = this.isolate.limiter.callQueues();
    this.#death.catch(() => {});
  }

  die(): void {
    this.#isDead = true;
    this.#die(new Refusal("unreachable", "the session has ended"));
  }

  /** What the hub answers, unless it dies before. */
  answered<T>(decision: Promise<T>): Promise<T> {
    return Promise.race([decision, this.#death]);
  }
}

/** The hubs of a history. One that dies is replaced: the sessions of its callers begin again in another. */
export class Hubs {
  #hubs: Hub[];
  #made = 0;

  constructor(
    private readonly firstNumber: number,
    private readonly config: Config,
    private readonly objects: ObjectNamespace,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    /** The share of sessions that end in the middle of a message. */
    private readonly deathShare: number,
  ) {
    this.#hubs = [this.#newHub(), this.#newHub()];
  }

  /** The hub for the next batch. It may die while it decides. */
  next(): Hub {
    const hub = this.chance.of(this.#hubs);
    if (this.chance.is(this.deathShare))
      this.scheduler.after(this.chance.below(150), () => {
        hub.die();
        this.#hubs = this.#hubs.map((other) => (other === hub ? this.#newHub() : other));
      });
    return hub;
  }

  #newHub(): Hub {
    const number = this.firstNumber + this.#made++;
    return new Hub(number, this.config, this.objects, this.scheduler, this.chance.below(100_000));
  }
}
