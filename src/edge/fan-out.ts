import type { Config } from "../config/config";
import type {
  Answer,
  AnswerOf,
  AskedCounter,
  Charge,
  ChargeAnswer,
  EventAnswer,
  EventQuestion,
  Method,
  Question,
  QuestionOf,
} from "../object/protocol";
import type { ObjectCalls } from "./calls";
import { type Timing, within } from "./deadline";
import { logFault } from "./fault";
import { silent, unreachable } from "./objects";
import { objectOf } from "./placement";
import { Refusal } from "./refusal";

/** Keeps what must be done alive when its caller has hung up. */
export type WaitUntil = (work: Promise<unknown>) => void;

/** What becomes of a decision that some object is silent about: it is refused, or it is made without that object's word. */
export type IfSilent = "refuse" | "leave out";

/** The share of its time that a charge over several objects keeps for rolling back. */
const ROLLBACK_SHARE = 0.2;

/** The counters of a decision that live in one object, and where they stand in the policy. */
interface Part {
  readonly object: string;
  readonly counters: AskedCounter[];
  readonly indexes: number[];
}

/** What a consume came to, and the keys whose charge was rolled back, or may have been. */
export interface Consumed extends ChargeAnswer {
  readonly rolledBack?: readonly string[];
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
    private readonly calls: ObjectCalls,
    private readonly config: Pick<Config, "placement" | "deadlineMs">,
    private readonly timing: Timing,
    /** Until then the decision is answered, whatever it asks. */
    private readonly giveUpAtMs: number,
    private readonly ifSilent: IfSilent = "refuse",
  ) {}

  async check(question: Question): Promise<Answer> {
    const parts = this.#split(question);
    const answers = await Promise.all(
      parts.map(({ object, counters }) => this.#hear(object, "check", { ...question, counters })),
    );
    return join(parts, answers);
  }

  /**
   * All objects record the charge, or none: when one does not admit it, what the others admitted is put back before this
   * answers. A denial by one object is a denial, also when another is silent: then the silent one's layers are left out.
   * @throws Refusal `reused-id` or `unreachable`.
   */
  async consume(charge: Omit<Charge, "attempt" | "alone">, waitUntil: WaitUntil): Promise<Consumed> {
    const parts = this.#split(charge);
    // Whoever tries this again is safe: the event is recorded once, and an undo lifts the claim of this attempt alone.
    const attempt = this.timing.random().toString(36).slice(2, 12);
    const alone = parts.length === 1;
    const asked = parts.map(({ object, counters }) => ({ object, charge: { ...charge, attempt, alone, counters } }));
    const answer: Promise<Consumed> = alone
      ? this.#charge(parts, asked[0] as AskedPart)
      : this.#chargeAll(parts, asked, waitUntil);
    // A caller that hangs up must not leave the charge half put back.
    if (!alone) waitUntil(answer.catch(() => {}));
    const { conflicts } = await answer;
    if (conflicts && this.ifSilent === "refuse")
      throw new Refusal("reused-id", "This idempotency key was used with another policy or cost.");
    return answer;
  }

  async #charge(parts: Part[], { object, charge }: AskedPart): Promise<ChargeAnswer> {
    return joinCharge(parts, [await this.#hear(object, "consume", charge)]);
  }

  async #chargeAll(parts: Part[], asked: AskedPart[], waitUntil: WaitUntil): Promise<Consumed> {
    const askedAtMs = this.timing.now();
    const chargeUntilMs = askedAtMs + (1 - ROLLBACK_SHARE) * (this.giveUpAtMs - askedAtMs);
    const answers = await Promise.all(
      asked.map(({ object, charge }) => this.#ask(object, "consume", charge, chargeUntilMs).catch(silent)),
    );
    if (answers.every((answer) => answer?.allowed)) return joinCharge(parts, answers);

    // With a deadline of its own, since it has to be done; it is waited for as long as the decision has time.
    const undo = ({ object, charge }: AskedPart) => {
      const nowMs = this.timing.now();
      const undone = this.#ask(object, "undo", charge, nowMs + this.config.deadlineMs).catch((error: unknown) => {
        logFault("a charge could not be put back", error, { object, id: charge.id });
      });
      waitUntil(undone);
      return within(this.giveUpAtMs - nowMs, undone, this.timing).catch(() => undefined);
    };
    const putBack = await Promise.all(
      asked.map(async (part, i) => {
        const answer = answers[i];
        // It may have recorded the charge: it is told, but not waited for any longer.
        if (answer === undefined) void undo(part);
        if (!answer?.allowed) return answer;
        const undone = await undo(part);
        if (!undone) return answer;
        return { ...undone, allowed: true, replayed: answer.replayed, conflicts: answer.conflicts };
      }),
    );
    if (this.ifSilent === "refuse" && answers.every((answer) => answer?.allowed ?? true)) return unreachable();
    const rolledBack = parts.filter((_, i) => answers[i]?.allowed ?? true);
    return { ...joinCharge(parts, putBack), rolledBack: rolledBack.flatMap(keysOf) };
  }

  settle(question: EventQuestion): Promise<EventAnswer> {
    return this.#change(question, (object, part) => this.#hear(object, "settle", part));
  }

  release(question: EventQuestion): Promise<EventAnswer> {
    return this.#change(question, (object, part) => this.#hear(object, "release", { event: part }));
  }

  /** Changes the event in all objects; found if it was in one of them, for a key may have been forgotten since. */
  async #change(
    question: EventQuestion,
    change: (object: string, part: EventQuestion) => Promise<EventAnswer | undefined>,
  ): Promise<EventAnswer> {
    const parts = this.#split(question);
    const answers = await Promise.all(parts.map(({ object, counters }) => change(object, { ...question, counters })));
    return { ...join(parts, answers), found: answers.some((answer) => answer?.found === true) };
  }

  /** What an object answers; undefined when it is silent, and that is no reason to refuse. */
  #hear<M extends Method>(object: string, method: M, question: QuestionOf<M>): Promise<AnswerOf<M> | undefined> {
    const heard = this.#ask(object, method, question);
    return heard.catch((error) => (this.ifSilent === "refuse" ? unreachable(error) : silent(error)));
  }

  #ask<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
    giveUpAtMs = this.giveUpAtMs,
  ): Promise<AnswerOf<M>> {
    return this.calls.ask(object, method, question, giveUpAtMs);
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

function keysOf({ counters }: Part): string[] {
  return counters.map(({ key }) => key);
}

/** What the answers of all parts say of each counter, in the order asked: `none` where a part is silent about it. */
function placed<T>(
  parts: readonly Part[],
  answers: readonly (Answer | undefined)[],
  told: (answer: Answer, counter: number) => T | undefined,
  none: T,
): T[] {
  const all: T[] = [];
  parts.forEach(({ indexes }, p) => {
    const answer = answers[p];
    indexes.forEach((index, i) => {
      all[index] = (answer && told(answer, i)) ?? none;
    });
  });
  return all;
}

/** The answers of all parts as one, which admits if every part does that is not silent. */
function join(parts: readonly Part[], answers: readonly (Answer | undefined)[]): Answer {
  const known = answers.filter((answer) => answer !== undefined);
  return {
    allowed: known.every(({ allowed }) => allowed),
    atMs: Math.max(...known.map(({ atMs }) => atMs)),
    standings: placed(parts, answers, ({ standings }, i) => standings[i], []),
    ...(known.some(({ overrides }) => overrides) && {
      overrides: placed(parts, answers, ({ overrides }, i) => overrides?.[i], null),
    }),
  };
}

/** Of many attempts at once, the one that recorded the event where the policy's first layer counts is no replay. */
function joinCharge(parts: readonly Part[], answers: readonly (ChargeAnswer | undefined)[]): ChargeAnswer {
  return {
    ...join(parts, answers),
    replayed: answers[0]?.replayed ?? false,
    conflicts: answers.some((answer) => answer?.conflicts === true),
  };
}
