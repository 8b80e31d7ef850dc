import type { Config } from "../config/config";
import type {
  ChangeVerdict,
  EventQuestion,
  Method,
  ObjectVerdict,
  Question,
  QuestionOf,
  VerdictOf,
} from "../object/protocol";
import type { Asker, ConsumeQuestion, ConsumeVerdict } from "./asker";
import { Attempts } from "./attempts";
import { type Hearer, hear, heard, type ObjectCalls } from "./calls";
import { joinVerdicts, partsOf } from "./parts";
import type { Timing } from "./timing";
import { logUnreachable, throwUnreachable } from "./unreachable";

/**
 * All objects that hold the counters of a decision: one call to each, in parallel, and one verdict in the order of the
 * counters. Counters of one object share a call, which decides them all or nothing. Live layers get a Refusal when an object
 * is unreachable, and a consume also when its id was used for something else.
 */
export class FanOut {
  constructor(
    private readonly calls: ObjectCalls,
    private readonly config: Pick<Config, "placement" | "deadlineMs">,
    private readonly timing: Timing,
  ) {}

  /** A denial stands even if another object is unreachable. The verdict then has no standings of that object. */
  async check(question: Question, asker: Asker): Promise<ObjectVerdict> {
    const parts = partsOf(question, this.config.placement);
    const verdicts = await Promise.all(
      parts.map(({ object, counters }) =>
        this.#ask(object, "check", { ...question, counters }, asker).catch(logUnreachable),
      ),
    );
    const joined = joinVerdicts(parts, verdicts);
    return joined.allowed && verdicts.includes(undefined) && asker.ifUnreachable === "refuse"
      ? throwUnreachable()
      : joined;
  }

  /**
   * All objects record the charge, or none: when an object denies, the charges of the others are rolled back before this is
   * answered. A denial stands even if another object is unreachable. The verdict then has no standings of that object.
   */
  consume(question: ConsumeQuestion, asker: Asker, isLikelyDenied: boolean, hearer: Hearer<ConsumeVerdict>): void {
    if (isLikelyDenied) hear(this.#consumeIfAdmitted(question, asker), hearer);
    else new Attempts(this.calls, this.config, this.timing, question, asker, hearer).begin();
  }

  /** Changes the event in all objects. It counts as found if any object has it: the key may have been reset in another. */
  async change(method: "settle" | "release", question: EventQuestion, asker: Asker): Promise<ChangeVerdict> {
    const parts = partsOf(question, this.config.placement);
    const ifUnreachable = asker.ifUnreachable === "refuse" ? throwUnreachable : logUnreachable;
    const verdicts = await Promise.all(
      parts.map(({ object, counters }) =>
        this.#ask(object, method, { ...question, counters }, asker).catch(ifUnreachable),
      ),
    );
    return { ...joinVerdicts(parts, verdicts), found: verdicts.some((verdict) => verdict?.found === true) };
  }

  /** A check writes nothing. A charge that is denied elsewhere writes twice: the event and its rollback. */
  async #consumeIfAdmitted(question: ConsumeQuestion, asker: Asker): Promise<ConsumeVerdict> {
    const { policy, cost, counters, cacheMs } = question;
    const checked = await this.check({ policy, cost, counters, cacheMs }, asker);
    if (!checked.allowed) return { ...checked, replayed: false, conflicts: false, charged: false };
    return heard((hearer) => this.consume(question, asker, false, hearer));
  }

  #ask<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
    { giveUpAtMs, position }: Asker,
  ): Promise<VerdictOf<M>> {
    return heard((hearer) => this.calls.ask(object, method, question, giveUpAtMs, position, hearer));
  }
}
