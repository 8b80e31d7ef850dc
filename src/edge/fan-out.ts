import type { Config } from "../config/config";
import { earlierMakers, type Remembered, recognise } from "../core/recognition";
import type {
  Answer,
  AnswerOf,
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
import { join, joinCharge, type Part, partsOf, placed } from "./parts";
import { Refusal } from "./refusal";

/** Keeps what must be done alive when its caller has hung up. */
export type WaitUntil = (work: Promise<unknown>) => void;

/** What becomes of a decision that some object is silent about: it is refused, or it is made without that object's word. */
export type IfSilent = "refuse" | "leave out";

/** How often a charge is sent as a new attempt, when its denial is not explained by any limit. */
const MOST_ATTEMPTS = 3;

/** The share of its time that a charge over several objects keeps for rolling back. */
const ROLLBACK_SHARE = 0.2;

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
  /** Names the attempts of this decision, so that one of them is told from those of others. */
  readonly #name: string;
  #attempts = 0;

  constructor(
    private readonly calls: ObjectCalls,
    private readonly config: Pick<Config, "placement" | "deadlineMs">,
    private readonly timing: Timing,
    /** Until then the decision is answered, whatever it asks. */
    private readonly giveUpAtMs: number,
    private readonly ifSilent: IfSilent = "refuse",
  ) {
    this.#name = timing.random().toString(36).slice(2, 12);
  }

  async check(question: Question): Promise<Answer> {
    const parts = partsOf(question, this.config.placement);
    const answers = await Promise.all(
      parts.map(({ object, counters }) => this.#hear(object, "check", { ...question, counters })),
    );
    return join(parts, answers);
  }

  /**
   * All objects record the charge, or none: when one does not admit it, what the others admitted is put back before this
   * answers. A denial by one object is a denial, also when another is silent: then the silent one's layers are left out.
   * `judged`: others have judged the id already, and these layers follow.
   * @throws Refusal `reused-id` or `unreachable`.
   */
  async consume(
    charge: Omit<Charge, "attempt" | "alone" | "verdict">,
    waitUntil: WaitUntil,
    judged?: Charge["verdict"],
  ): Promise<Consumed> {
    for (let attempts = 1; ; attempts++) {
      const answer = await this.#attempt(charge, waitUntil, judged);
      // The answer of a denial was lost, and there is room by now: an attempt that was denied charges nothing any more.
      if (answer.allowed || answer.conflicts || attempts === MOST_ATTEMPTS || isExplained(answer)) return answer;
    }
  }

  async #attempt(
    charge: Omit<Charge, "attempt" | "alone" | "verdict">,
    waitUntil: WaitUntil,
    judged: Charge["verdict"],
  ): Promise<Consumed> {
    const parts = partsOf(charge, this.config.placement);
    // Whoever tries this again is safe: the event is recorded once, and an undo lifts the claim of this attempt alone.
    this.#attempts++;
    const attempt = this.#attempts === 1 ? this.#name : `${this.#name}.${this.#attempts}`;
    const alone = parts.length === 1;
    const asked = { ...charge, attempt, alone, ...(judged && { verdict: judged }) };
    const answer: Promise<Consumed> = alone ? this.#chargeOne(parts, asked) : this.#chargeAll(parts, asked, waitUntil);
    // A caller that hangs up must not leave the charge half put back.
    if (!alone) waitUntil(answer.catch(() => {}));
    const { conflicts } = await answer;
    if (conflicts && this.ifSilent === "refuse")
      throw new Refusal("reused-id", "This idempotency key was used with another policy or cost. Use a new key.");
    return answer;
  }

  async #chargeOne(parts: readonly Part[], charge: Charge): Promise<ChargeAnswer> {
    const [{ object }] = parts as [Part];
    return joinCharge(parts, [await this.#hear(object, "consume", charge)]);
  }

  /** One round of calls; a second where an id is neither unknown to all objects nor known as a whole. */
  async #chargeAll(parts: readonly Part[], charge: Charge, waitUntil: WaitUntil): Promise<Consumed> {
    const askedAtMs = this.timing.now();
    const chargeUntilMs = askedAtMs + (1 - ROLLBACK_SHARE) * (this.giveUpAtMs - askedAtMs);
    const asked = parts.map((part) => ({ object: part.object, charge: { ...charge, counters: part.counters } }));
    const first = await this.#askAll(asked, chargeUntilMs);
    const remembered = placed<ChargeAnswer, Remembered | undefined>(
      parts,
      first,
      (answer, i) => answer.remembered?.[i] ?? undefined,
      undefined,
    );
    const layers = charge.counters.map(({ layer }) => layer);
    const recognition = recognise(layers, remembered);
    if (recognition === "known") return this.#replayed(parts, asked, first, waitUntil);

    const conflicts = recognition === "conflict";
    const isDecided = conflicts || first.some((answer) => !answer?.allowed);
    const judged = { verdict: conflicts ? "new" : recognition, earlier: earlierMakers(recognition, remembered[0]) };
    const again = asked.map(({ object, charge }, i) => {
      const isOpen = !isDecided && first[i]?.charged === false;
      return isOpen ? { object, charge: { ...charge, ...judged } } : undefined;
    });
    const second = await this.#askAll(again, chargeUntilMs);
    const answers = first.map((answer, i) => (again[i] ? second[i] : answer));
    if (!conflicts && answers.every((answer) => answer?.allowed)) {
      const answer = joinCharge(parts, answers);
      // The first layer had no part in what a later one knows.
      return { ...answer, replayed: answer.replayed || (recognition === "torn" && !remembered[0]) };
    }

    const putBack = await this.#putBack(asked, answers, waitUntil);
    if (!conflicts && this.ifSilent === "refuse" && answers.every((answer) => answer?.allowed ?? true))
      return unreachable();
    const answer = joinCharge(parts, putBack);
    const rolledBack = parts.filter((_, i) => answers[i]?.allowed ?? true).flatMap(keysOf);
    return { ...answer, allowed: !conflicts && answer.allowed, conflicts, charged: false, rolledBack };
  }

  /**
   * Everybody holds the decision. What was charged all the same is rolled back: by a layer that had no part in it, since it was
   * live only later, and by one whose clock had passed the id's window.
   */
  async #replayed(
    parts: readonly Part[],
    asked: readonly AskedPart[],
    answers: readonly (ChargeAnswer | undefined)[],
    waitUntil: WaitUntil,
  ): Promise<ChargeAnswer> {
    const isReport = (answer: ChargeAnswer | undefined) => answer?.allowed === true && !answer.charged;
    const final = await Promise.all(
      answers.map(async (answer, i) => {
        const part = asked[i];
        if (isReport(answer) || !part) return answer;
        const [undone] = await this.#putBack([part], [answer], waitUntil);
        return undone;
      }),
    );
    return { ...joinCharge(parts, final), allowed: true, replayed: true, conflicts: false, charged: false };
  }

  #askAll(asked: readonly (AskedPart | undefined)[], giveUpAtMs: number): Promise<(ChargeAnswer | undefined)[]> {
    return Promise.all(
      asked.map((part) => part && this.#ask(part.object, "consume", part.charge, giveUpAtMs).catch(silent)),
    );
  }

  /** Puts back what was charged, by whoever may have charged it. Answers how the counters stand then. */
  #putBack(
    asked: readonly AskedPart[],
    answers: readonly (ChargeAnswer | undefined)[],
    waitUntil: WaitUntil,
  ): Promise<(ChargeAnswer | undefined)[]> {
    return Promise.all(
      asked.map(async (part, i) => {
        const answer = answers[i];
        // It may have recorded the charge: it is told, but not waited for any longer.
        if (answer === undefined) void this.#undo(part, waitUntil);
        if (!answer?.allowed) return answer;
        const undone = await this.#undo(part, waitUntil);
        if (!undone) return answer;
        const { replayed, conflicts, charged } = answer;
        return { ...undone, allowed: true, replayed, conflicts, charged };
      }),
    );
  }

  /** With a deadline of its own, since it has to be done; it is waited for as long as the decision has time. */
  #undo({ object, charge }: AskedPart, waitUntil: WaitUntil): Promise<Answer | undefined> {
    const nowMs = this.timing.now();
    const undone = this.#ask(object, "undo", charge, nowMs + this.config.deadlineMs).catch((error: unknown) => {
      logFault("A charge could not be rolled back; it may deny too much for one window.", error, {
        object,
        id: charge.id,
      });
      return undefined;
    });
    waitUntil(undone);
    return within(this.giveUpAtMs - nowMs, undone, this.timing).catch(() => undefined);
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
    const parts = partsOf(question, this.config.placement);
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
}

/** Some limit does not admit the cost. */
function isExplained({ standings }: Answer): boolean {
  return standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > 0));
}

function keysOf({ counters }: Part): string[] {
  return counters.map(({ key }) => key);
}
