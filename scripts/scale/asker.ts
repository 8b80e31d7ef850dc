import type { Call, CallResult, Charge, ChargeVerdict } from "../../src/object/protocol";
import type { DecidingStub } from "../../src/objects/binding";
import { CallQueues } from "../../src/objects/call-queue";
import { DirectCalls, heard, type ObjectCalls } from "../../src/objects/calls";
import type { Timing } from "../../src/objects/timing";
import type { Scheduler } from "../../tools/scheduler";
import { ASSUMED } from "./bill";
import { InFlight } from "./in-flight";

const { world, latency } = ASSUMED;

/** The same in every decision: a modelled object does not read it. */
const QUESTION: Charge = {
  policy: "chat",
  cost: 1,
  counters: [],
  id: "",
  identity: "",
  attempt: "",
  windowMs: 60_000,
};

/** A hub, with the real call queues. Or an isolate of the Worker, which calls an object for each decision. */
export class Asker {
  readonly inFlight: InFlight;
  readonly #toObjects = new Map<string, InFlight>();
  readonly #ask: ObjectCalls["ask"];

  constructor(
    isHub: boolean,
    private readonly roundTripMs: number,
    objectAt: (name: string) => DecidingStub,
    private readonly timing: Timing,
    private readonly scheduler: Scheduler,
  ) {
    this.inFlight = new InFlight(scheduler);
    const distant = { getByName: (name: string) => this.#distant(name, objectAt(name)) };
    const config = { locationHint: undefined };
    if (isHub) {
      const queues = new CallQueues(distant, config, timing);
      this.#ask = (...call) => queues.begin(() => queues.forBatch().ask(...call));
    } else {
      const calls = new DirectCalls(distant, config, timing);
      this.#ask = (...call) => calls.ask(...call);
    }
  }

  /** The most calls that were in flight to one object. */
  get mostInFlight(): number {
    return Math.max(0, ...[...this.#toObjects.values()].map(({ most }) => most));
  }

  /** One message with one decision. False if it is refused: the deadline passed, or the object is overloaded. */
  ask(object: string): Promise<boolean> {
    const giveUpAtMs = this.timing.now() + latency.deadline;
    const verdict = heard<ChargeVerdict>((hearer) => this.#ask(object, "consume", QUESTION, giveUpAtMs, 0, hearer));
    return verdict.then(
      ({ allowed }) => allowed,
      () => false,
    );
  }

  /** The object, as far away as it is from this region. */
  #distant(name: string, object: DecidingStub): DecidingStub {
    const toObject = this.#toObjects.get(name) ?? new InFlight(this.scheduler);
    this.#toObjects.set(name, toObject);
    const call = async (calls: readonly Call[]): Promise<CallResult[]> => {
      await this.#travel();
      try {
        return await object.decide(calls);
      } finally {
        await this.#travel();
      }
    };
    return { decide: (calls) => this.inFlight.during(() => toObject.during(() => call(calls))) };
  }

  #travel(): Promise<void> {
    const jitter = world.jitter * (2 * this.scheduler.random() - 1);
    return this.scheduler.sleep((this.roundTripMs / 2) * (1 + jitter));
  }
}
