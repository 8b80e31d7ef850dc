import type { AnswerOf, Call, Method, Outcome, QuestionOf } from "../object/protocol";
import { type Timing, within } from "./deadline";
import type { ObjectNamespace, ObjectStub } from "./fan-out";

interface Asked {
  readonly call: Call;
  readonly resolve: (answer: AnswerOf<Method>) => void;
  readonly reject: (error: unknown) => void;
}

/** The calls to one object that travel together. */
interface Parcel {
  readonly stub: () => ObjectStub;
  readonly asked: Asked[];
}

/**
 * The objects, to the decisions of one batch: what these ask of one object at the same time is one call to it, in the
 * order asked. Calls go out in rounds, so that whatever must be put back after the first one is one call an object too.
 */
export class GatheredObjects implements ObjectNamespace {
  #next = new Map<string, Parcel>();
  #isUnderWay = false;

  constructor(
    private readonly objects: ObjectNamespace,
    /** How long a round waits for an object that is silent. */
    private readonly deadlineMs: number,
    private readonly timing: Timing,
  ) {}

  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): ObjectStub {
    const stub = () => this.objects.getByName(name, options);
    const gathered =
      <M extends Method>(method: M) =>
      (question: QuestionOf<M>) =>
        this.#gather(name, stub, { method, question } as Call) as Promise<AnswerOf<M>>;
    return {
      check: gathered("check"),
      consume: gathered("consume"),
      undo: gathered("undo"),
      settle: gathered("settle"),
      decide: (calls) => stub().decide(calls),
      inspect: (key, asked, mostEvents) => stub().inspect(key, asked, mostEvents),
      forget: (key) => stub().forget(key),
    };
  }

  #gather(name: string, stub: Parcel["stub"], call: Call): Promise<AnswerOf<Method>> {
    return new Promise((resolve, reject) => {
      const parcel = this.#next.get(name) ?? { stub, asked: [] };
      parcel.asked.push({ call, resolve, reject });
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
  try {
    const outcomes = await stub().decide(asked.map(({ call }) => call));
    for (const [i, { resolve, reject }] of asked.entries()) {
      const outcome: Outcome = outcomes[i] ?? { error: new Error("an object left a call unanswered") };
      if ("error" in outcome) reject(outcome.error);
      else resolve(outcome.answer);
    }
  } catch (error) {
    for (const { reject } of asked) reject(error);
  }
}
