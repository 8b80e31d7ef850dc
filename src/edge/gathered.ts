import type { Call, Outcome } from "../object/protocol";
import { type Timing, within } from "./deadline";
import type { DecidingStub, ObjectNamespace } from "./objects";

interface Asked {
  readonly nth: number;
  readonly calls: readonly Call[];
  readonly resolve: (outcomes: Outcome[]) => void;
  readonly reject: (error: unknown) => void;
}

/** The calls to one object that travel together. */
interface Parcel {
  readonly stub: () => DecidingStub;
  readonly asked: Asked[];
}

/**
 * The objects, to the decisions of one batch: what these ask of one object at the same time is one call to it, in the
 * order of the batch. Calls go out in rounds, so that whatever must be put back after the first one is one call an object
 * too, and so is what layers in shadow are asked.
 */
export class GatheredObjects {
  #next = new Map<string, Parcel>();
  #isUnderWay = false;

  constructor(
    private readonly objects: ObjectNamespace<DecidingStub>,
    /** How long a round waits for an object that is silent. */
    private readonly deadlineMs: number,
    private readonly timing: Timing,
  ) {}

  /** The objects, to the decision that is the `nth` of the batch. */
  forDecision(nth: number): ObjectNamespace<DecidingStub> {
    return {
      getByName: (name, where) => {
        const stub = () => this.objects.getByName(name, where);
        return { decide: (calls) => this.#gather(nth, name, stub, calls) };
      },
    };
  }

  #gather(nth: number, name: string, stub: Parcel["stub"], calls: readonly Call[]): Promise<Outcome[]> {
    return new Promise((resolve, reject) => {
      const parcel = this.#next.get(name) ?? { stub, asked: [] };
      parcel.asked.push({ nth, calls, resolve, reject });
      this.#next.set(name, parcel);
      if (!this.#isUnderWay) this.#sendRounds();
    });
  }

  async #sendRounds(): Promise<void> {
    this.#isUnderWay = true;
    // A turn before each round, in which every decision that was answered asks for what it needs next.
    while (await this.#turn()) {
      const parcels = [...this.#next.values()];
      this.#next = new Map();
      await within(this.deadlineMs, Promise.all(parcels.map(send)), this.timing).catch(() => {});
    }
    this.#isUnderWay = false;
  }

  async #turn(): Promise<boolean> {
    await new Promise<void>((resolve) => void this.timing.after(0, resolve));
    return this.#next.size > 0;
  }
}

async function send({ stub, asked }: Parcel): Promise<void> {
  // Decisions ask for what they need next as soon as they can, the shorter their way the sooner.
  asked.sort((one, other) => one.nth - other.nth);
  try {
    const outcomes = await stub().decide(asked.flatMap(({ calls }) => calls));
    let next = 0;
    for (const { calls, resolve } of asked) {
      resolve(outcomes.slice(next, next + calls.length));
      next += calls.length;
    }
  } catch (error) {
    for (const { reject } of asked) reject(error);
  }
}
