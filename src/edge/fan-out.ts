import type { Config } from "../config/config";
import type {
  Answer,
  AnswerOf,
  AskedCounter,
  AskedOf,
  Call,
  Charge,
  ChargeAnswer,
  EventAnswer,
  EventQuestion,
  Inspected,
  Method,
  Outcome,
  Question,
  QuestionOf,
} from "../object/protocol";
import { callWithin, type Timing } from "./deadline";
import { logFault } from "./log";
import type { ObjectNamespace, ObjectStub } from "./objects";
import { objectOf } from "./placement";
import { Refusal } from "./refusal";

/** Keeps what must be done alive when its caller has hung up. */
export type WaitUntil = (work: Promise<unknown>) => void;

/** The counters of a decision that live in one object, and where they stand in the policy. */
interface Part {
  readonly object: string;
  readonly counters: AskedCounter[];
  readonly indexes: number[];
}

/** What one object is asked to record. */
interface AskedPart {
  readonly object: string;
  readonly charge: Charge;
}

/**
 * Decisions over the objects that hold their counters: one call to each, in parallel, and the answers put together
 * again in the order asked. Counters that share an object share its call, which decides them all or nothing.
 */
export class FanOut {
  constructor(
    private readonly objects: ObjectNamespace,
    private readonly config: Pick<Config, "placement" | "locationHint" | "deadlineMs">,
    private readonly timing: Timing,
  ) {}

  async check(question: Question): Promise<Answer> {
    const parts = this.#split(question);
    const answers = await Promise.all(
      parts.map(({ object, counters }) => this.#ask(object, "check", { ...question, counters })),
    ).catch(unreachable);
    return join(parts, answers);
  }

  /**
   * All objects record the charge, or none: when one does not admit it, what the others admitted is put back before this
   * answers. A denial by one object is a denial, also when another is silent: then the silent one's layers are left out.
   * @throws Refusal `reused-id` or `unreachable`.
   */
  async consume(charge: Omit<Charge, "attempt" | "alone">, waitUntil: WaitUntil): Promise<ChargeAnswer> {
    const parts = this.#split(charge);
    // Whoever tries this again is safe: the event is recorded once, and an undo lifts the claim of this attempt alone.
    const attempt = this.timing.random().toString(36).slice(2, 12);
    const alone = parts.length === 1;
    const asked = parts.map(({ object, counters }) => ({ object, charge: { ...charge, attempt, alone, counters } }));
    const answer = alone ? this.#charge(asked[0] as AskedPart) : this.#chargeAll(parts, asked, waitUntil);
    // A caller that hangs up must not leave the charge half put back.
    if (!alone) waitUntil(answer.catch(() => {}));
    const { conflicts } = await answer;
    if (conflicts) throw new Refusal("reused-id", "This idempotency key was used with another policy or cost.");
    return answer;
  }

  #charge({ object, charge }: AskedPart): Promise<ChargeAnswer> {
    return this.#ask(object, "consume", charge).catch(unreachable);
  }

  async #chargeAll(parts: Part[], asked: AskedPart[], waitUntil: WaitUntil): Promise<ChargeAnswer> {
    const answers = await Promise.all(
      asked.map(({ object, charge }) => this.#ask(object, "consume", charge).catch(silent)),
    );
    if (answers.every((answer) => answer?.allowed)) return joinCharge(parts, answers);

    const undo = ({ object, charge }: AskedPart) =>
      this.#ask(object, "undo", charge).catch((error: unknown) => {
        logFault("a charge could not be put back", error, { object, id: charge.id });
      });
    const putBack = await Promise.all(
      asked.map(async (part, i) => {
        const answer = answers[i];
        // It may have recorded the charge: it is told, but not waited for any longer.
        if (answer === undefined) waitUntil(undo(part));
        return answer?.allowed ? { ...answer, ...(await undo(part)), allowed: true } : answer;
      }),
    );
    if (answers.every((answer) => answer?.allowed ?? true)) return unreachable();
    return joinCharge(parts, putBack);
  }

  settle(question: EventQuestion): Promise<EventAnswer> {
    return this.#change(question, (object, part) => this.#ask(object, "settle", part));
  }

  release(question: EventQuestion): Promise<EventAnswer> {
    return this.#change(question, (object, part) => this.#ask(object, "release", { event: part }));
  }

  /** Changes the event in all objects; found if it was in one of them, for a key may have been forgotten since. */
  async #change(
    question: EventQuestion,
    change: (object: string, part: EventQuestion) => Promise<EventAnswer>,
  ): Promise<EventAnswer> {
    const parts = this.#split(question);
    const answers = await Promise.all(
      parts.map(({ object, counters }) => change(object, { ...question, counters })),
    ).catch(unreachable);
    return { ...join(parts, answers), found: answers.some(({ found }) => found) };
  }

  async inspect(key: string, asked: readonly AskedOf[], mostEvents: number): Promise<Inspected[]> {
    const object = objectOf(key, this.config.placement);
    return this.#call(object, (stub) => stub.inspect(key, asked, mostEvents)).catch(unreachable);
  }

  async forget(key: string): Promise<void> {
    await this.#call(objectOf(key, this.config.placement), (stub) => stub.forget(key)).catch(unreachable);
  }

  #ask<M extends Method>(object: string, method: M, question: QuestionOf<M>): Promise<AnswerOf<M>> {
    const calls = [{ method, question } as Call];
    return this.#call(object, async (stub) => {
      const [outcome] = (await stub.decide(calls)) as Outcome<AnswerOf<M>>[];
      if (outcome && "answer" in outcome) return outcome.answer;
      throw new Error(outcome?.error ?? "an object left a call unanswered");
    });
  }

  /** Each try takes a new stub: one that broke repeats its error. */
  #call<T>(object: string, call: (stub: ObjectStub) => Promise<T>): Promise<T> {
    const { locationHint, deadlineMs } = this.config;
    const options = locationHint === undefined ? {} : { locationHint };
    return callWithin(deadlineMs, () => call(this.objects.getByName(object, options)), this.timing);
  }

  #split({ counters }: Question): Part[] {
    const parts = new Map<string, Part>();
    counters.forEach((counter, index) => {
      const object = objectOf(counter.key, this.config.placement);
      const part = parts.get(object) ?? { object, counters: [], indexes: [] };
      part.counters.push(counter);
      part.indexes.push(index);
      parts.set(object, part);
    });
    return [...parts.values()];
  }
}

/** The standings of all parts in the order asked; of a part that is silent, none. */
function standingsOf(parts: readonly Part[], answers: readonly (Answer | undefined)[]): Answer["standings"] {
  const standings: Answer["standings"][number][] = [];
  parts.forEach(({ indexes }, p) => {
    indexes.forEach((index, i) => {
      standings[index] = answers[p]?.standings[i] ?? [];
    });
  });
  return standings;
}

/** The answers of all parts as one, which admits if every part does. */
function join(parts: readonly Part[], answers: readonly Answer[]): Answer {
  return {
    allowed: answers.every(({ allowed }) => allowed),
    atMs: Math.max(...answers.map(({ atMs }) => atMs)),
    standings: standingsOf(parts, answers),
  };
}

/** Of many attempts at once, the one that recorded the event where the policy's first layer counts is no replay. */
function joinCharge(parts: readonly Part[], answers: readonly (ChargeAnswer | undefined)[]): ChargeAnswer {
  const known = answers.filter((answer) => answer !== undefined);
  return {
    ...join(parts, known),
    standings: standingsOf(parts, answers),
    replayed: answers[0]?.replayed ?? false,
    conflicts: known.some(({ conflicts }) => conflicts),
  };
}

/** Whether a part that is silent did its work is not known. */
function silent(error: unknown): undefined {
  logFault("an object could not be reached", error);
}

function unreachable(error?: unknown): never {
  if (error !== undefined) silent(error);
  throw new Refusal("unreachable", "The counters could not be reached; nothing was decided.");
}
