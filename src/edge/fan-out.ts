import type { Config } from "../config/config";
import type { LimiterObject } from "../object/object";
import type { Answer, AskedCounter, Charge, Inspected, Question } from "../object/protocol";
import { objectOf } from "./placement";
import { Refusal } from "./refusal";

type Placing = Pick<Config, "placement" | "locationHint">;

/** The counters of a decision that live in one object, and where they stand in the policy. */
interface Part {
  readonly object: string;
  readonly counters: AskedCounter[];
  readonly indexes: number[];
}

/**
 * Decisions over the objects that hold their counters: one call to each, in parallel, and the answers put together
 * again in the order asked. Counters that share an object share its call, which decides them all or nothing.
 */
export class FanOut {
  constructor(
    private readonly objects: DurableObjectNamespace<LimiterObject>,
    private readonly placing: Placing,
  ) {}

  async check(question: Question): Promise<Answer> {
    const parts = this.#split(question);
    const answers = await Promise.all(
      parts.map(({ object, counters }) => this.#stub(object).check({ ...question, counters })),
    ).catch(unreachable);
    return join(parts, answers);
  }

  /** All objects record the charge, or none: when one denies or fails, what the others admitted is put back first. */
  async consume(charge: Charge): Promise<Answer> {
    const parts = this.#split(charge);
    const outcomes = await Promise.allSettled(
      parts.map(({ object, counters }) => this.#stub(object).consume({ ...charge, counters })),
    );
    const answers = outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : undefined));
    if (!answers.every((answer) => answer?.allowed))
      await Promise.all(
        parts.map(async (part, i) => {
          if (answers[i]?.allowed) answers[i] = await this.#putBack(charge, part, answers[i]);
        }),
      );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) return unreachable(failed.reason);
    return join(parts, answers as Answer[]);
  }

  /** How a part stands without the charge; if that fails, with it: it then counts until its window has passed. */
  async #putBack(charge: Charge, { object, counters }: Part, admitted: Answer): Promise<Answer> {
    try {
      return await this.#stub(object).undo({ ...charge, counters });
    } catch (error) {
      console.error({ message: "a denied charge could not be put back", object, id: charge.id, error });
      return admitted;
    }
  }

  async inspect(key: string, asked: (AskedCounter & { policy: string })[], mostEvents: number): Promise<Inspected[]> {
    return await this.#stub(objectOf(key, this.placing.placement)).inspect(asked, mostEvents).catch(unreachable);
  }

  async forget(key: string): Promise<void> {
    await this.#stub(objectOf(key, this.placing.placement)).forget(key).catch(unreachable);
  }

  /** A new one for every call: a stub that broke repeats its error. */
  #stub(object: string): DurableObjectStub<LimiterObject> {
    const { locationHint } = this.placing;
    return this.objects.getByName(object, locationHint === undefined ? {} : { locationHint });
  }

  #split({ counters }: Question): Part[] {
    const parts = new Map<string, Part>();
    counters.forEach((counter, index) => {
      const object = objectOf(counter.key, this.placing.placement);
      const part = parts.get(object) ?? { object, counters: [], indexes: [] };
      part.counters.push(counter);
      part.indexes.push(index);
      parts.set(object, part);
    });
    return [...parts.values()];
  }
}

/** The answers of all parts as one, which admits if every part does. */
function join(parts: readonly Part[], answers: readonly Answer[]): Answer {
  const standings: Answer["standings"][number][] = [];
  parts.forEach(({ indexes }, p) => {
    indexes.forEach((index, i) => {
      standings[index] = answers[p]?.standings[i] ?? [];
    });
  });
  return {
    allowed: answers.every((answer) => answer.allowed),
    atMs: Math.max(...answers.map((answer) => answer.atMs)),
    standings,
  };
}

function unreachable(error: unknown): never {
  console.error({ message: "an object could not be reached", error });
  throw new Refusal("unreachable", "The counters could not be reached; nothing was decided.");
}
