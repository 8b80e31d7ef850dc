import type { Config } from "../config/config";
import { earlierMakersOf, type HeldId, recognise } from "../core/recognition";
import { logFault } from "../fault";
import type {
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  EventQuestion,
  Method,
  ObjectVerdict,
  Question,
  QuestionOf,
  VerdictOf,
} from "../object/protocol";
import { Refusal } from "../request/refusal";
import type { ObjectCalls } from "./calls";
import { NotSentError, type Timing, within } from "./deadline";
import {
  type ConsumeOptions,
  type ConsumeQuestion,
  type ConsumeVerdict,
  keysOf,
  type Objects,
  type WaitUntil,
} from "./objects";
import { byCounter, joinCharges, joinVerdicts, type Part, partsOf } from "./parts";
import { type IfUnreachable, logUnreachable, throwUnreachable } from "./unreachable";

/** How many attempts a consume makes at most, when no limit explains its denial. */
const MOST_ATTEMPTS = 3;

/** The share of its time that a charge over several objects keeps for rolling back. */
const ROLLBACK_SHARE = 0.2;

/** The charge of one part, and the object that it goes to. */
interface PartCharge {
  readonly object: string;
  readonly charge: Charge;
  /** It was never sent, so nothing of it has to be rolled back. */
  isUnsent?: boolean;
}

/**
 * One decision over all objects that hold its counters: one call to each, in parallel, and one verdict in the order of the
 * counters. Counters of one object share a call, which decides them all or nothing.
 */
export class FanOut implements Objects {
  /** Prefix of the names of this decision's attempts. Other decisions have other prefixes. */
  readonly #name: string;
  #attemptCount = 0;

  constructor(
    private readonly calls: ObjectCalls,
    private readonly config: Pick<Config, "placement" | "deadlineMs">,
    private readonly timing: Timing,
    /** The deadline of the whole decision: all attempts, all rounds and waiting for a rollback. */
    private readonly giveUpAtMs: number,
    private readonly ifUnreachable: IfUnreachable = "refuse",
  ) {
    this.#name = timing.random().toString(36).slice(2, 12);
  }

  async check(question: Question): Promise<ObjectVerdict> {
    const parts = partsOf(question, this.config.placement);
    const verdicts = await Promise.all(
      parts.map(({ object, counters }) => this.#askRequired(object, "check", { ...question, counters })),
    );
    return joinVerdicts(parts, verdicts);
  }

  /**
   * All objects record the charge, or none: when an object denies, the charges of the others are rolled back before this
   * returns. A denial stands even if another object is unreachable. The verdict then has no standings of that object.
   */
  async consume(question: ConsumeQuestion, { waitUntil, isLikelyDenied }: ConsumeOptions): Promise<ConsumeVerdict> {
    // A check writes nothing. A charge that is denied elsewhere writes twice: the event and its rollback.
    if (isLikelyDenied) {
      const { policy, cost, counters, cacheMs } = question;
      const checked = await this.check({ policy, cost, counters, cacheMs });
      if (!checked.allowed) return { ...checked, replayed: false, conflicts: false, charged: false };
    }
    for (let attempt = 1; attempt < MOST_ATTEMPTS; attempt++) {
      const verdict = await this.#attempt(question, waitUntil);
      // No limit explains this denial: the object denied the attempt, its answer was lost, and there was room when the call
      // was sent again. A denied attempt can't charge any more (`object/ended-attempts.ts`), so make a new attempt.
      if (verdict.allowed || verdict.conflicts || isExplained(verdict)) return verdict;
    }
    return this.#attempt(question, waitUntil);
  }

  async settle(question: EventQuestion): Promise<ChangeVerdict> {
    return this.#change("settle", question);
  }

  async release(question: EventQuestion): Promise<ChangeVerdict> {
    return this.#change("release", question);
  }

  async #attempt(question: ConsumeQuestion, waitUntil: WaitUntil): Promise<ConsumeVerdict> {
    const parts = partsOf(question, this.config.placement);
    const [onlyPart] = parts.length === 1 ? parts : [];
    this.#attemptCount++;
    const attempt = this.#attemptCount === 1 ? this.#name : `${this.#name}.${this.#attemptCount}`;
    const charge = { ...question, attempt, isOnlyPart: onlyPart !== undefined };
    const charging = onlyPart ? this.#chargeOnlyPart(onlyPart, charge) : this.#chargeAll(parts, charge, waitUntil);
    // A caller that hangs up must not leave the charge half rolled back.
    if (!onlyPart) waitUntil(charging.catch(() => {}));
    const verdict = await charging;
    if (verdict.conflicts && this.ifUnreachable === "refuse")
      throw new Refusal("reused-id", "This idempotency key was used with another policy or cost. Use a new key.");
    return verdict;
  }

  async #chargeOnlyPart(part: Part, charge: Charge): Promise<ConsumeVerdict> {
    return (await this.#askRequired(part.object, "consume", charge)) ?? joinCharges([part], [undefined]);
  }

  /**
   * Charges all parts in one round of calls. A part that holds the id may charge nothing and return what it holds. A second
   * round charges these parts too if the id must be charged anew.
   */
  async #chargeAll(parts: readonly Part[], charge: Charge, waitUntil: WaitUntil): Promise<ConsumeVerdict> {
    const startMs = this.timing.now();
    const chargeUntilMs = startMs + (1 - ROLLBACK_SHARE) * (this.giveUpAtMs - startMs);
    const charges = parts.map(({ object, counters }) => ({ object, charge: { ...charge, counters } }));
    const first = await this.#chargeParts(charges, chargeUntilMs);
    const held = byCounter<ChargeVerdict, HeldId | undefined>(parts, first, ({ held }, i) => held?.[i], undefined);
    const layers = charge.counters.map(({ layer }) => layer);
    const recognition = recognise(layers, held);
    if (recognition === "known") return this.#replay(parts, charges, first, waitUntil);

    const conflicts = recognition === "conflict";
    const hasFailed = conflicts || first.some((verdict) => !verdict?.allowed);
    const recognised = {
      recognition: conflicts ? "new" : recognition,
      earlierMakers: earlierMakersOf(recognition, held[0]),
    } as const;
    const secondRound = charges.map(({ object, charge }, i) =>
      !hasFailed && first[i]?.charged === false ? { object, charge: { ...charge, ...recognised } } : undefined,
    );
    const second = await this.#chargeParts(secondRound, chargeUntilMs);
    const verdicts = first.map((verdict, i) => (secondRound[i] ? second[i] : verdict));
    if (!conflicts && verdicts.every((verdict) => verdict?.allowed)) {
      const joined = joinCharges(parts, verdicts);
      // Also a replay: only a later layer knows the id, from a decision before the first layer was live.
      return { ...joined, replayed: joined.replayed || (recognition === "torn" && !held[0]) };
    }

    const rolledBack = await this.#rollBackAll(charges, verdicts, waitUntil);
    const isDenied = verdicts.some((verdict) => verdict?.allowed === false);
    if (!conflicts && !isDenied && this.ifUnreachable === "refuse") return throwUnreachable();
    const joined = joinCharges(parts, rolledBack);
    return {
      ...joined,
      allowed: !conflicts && joined.allowed,
      conflicts,
      charged: false,
      rolledBack: parts.filter((_, i) => verdicts[i]?.allowed ?? true).flatMap(keysOf),
    };
  }

  /**
   * The verdict of a known id. Rolls back what the first round charged nevertheless: in a layer that took no part in the
   * decision since it became live later, or in an object by whose clock the id had left its window.
   */
  async #replay(
    parts: readonly Part[],
    charges: readonly PartCharge[],
    verdicts: readonly (ChargeVerdict | undefined)[],
    waitUntil: WaitUntil,
  ): Promise<ChargeVerdict> {
    const isReplay = (verdict: ChargeVerdict | undefined) => verdict?.allowed === true && !verdict.charged;
    const final = await Promise.all(
      charges.map(async (charge, i) => {
        if (isReplay(verdicts[i])) return verdicts[i];
        const [rolledBack] = await this.#rollBackAll([charge], [verdicts[i]], waitUntil);
        return rolledBack;
      }),
    );
    return { ...joinCharges(parts, final), allowed: true, replayed: true, conflicts: false, charged: false };
  }

  /** The verdict of each charge, undefined where the object is unreachable or there is no charge. */
  #chargeParts(
    charges: readonly (PartCharge | undefined)[],
    giveUpAtMs: number,
  ): Promise<(ChargeVerdict | undefined)[]> {
    const chargePart = (part: PartCharge) =>
      this.calls.ask(part.object, "consume", part.charge, giveUpAtMs).catch((error: unknown) => {
        part.isUnsent = error instanceof NotSentError;
        return logUnreachable(error);
      });
    return Promise.all(charges.map((part) => part && chargePart(part)));
  }

  /** Rolls back every charge that was made, or may have been. Resolves to the verdicts with the standings after that. */
  #rollBackAll(
    charges: readonly PartCharge[],
    verdicts: readonly (ChargeVerdict | undefined)[],
    waitUntil: WaitUntil,
  ): Promise<(ChargeVerdict | undefined)[]> {
    return Promise.all(
      charges.map(async (charge, i) => {
        const verdict = verdicts[i];
        // An unreachable object may have recorded the charge. Roll back there too, but do not wait for it again.
        if (verdict === undefined && !charge.isUnsent) void this.#rollBack(charge, waitUntil);
        if (!verdict?.allowed) return verdict;
        const standings = await this.#rollBack(charge, waitUntil);
        if (!standings) return verdict;
        const { replayed, conflicts, charged } = verdict;
        return { ...standings, allowed: true, replayed, conflicts, charged };
      }),
    );
  }

  /** Rolls back with a full deadline, since the charge must not stay. The decision waits only for the time it has left. */
  #rollBack({ object, charge }: PartCharge, waitUntil: WaitUntil): Promise<ObjectVerdict | undefined> {
    const nowMs = this.timing.now();
    const rolledBack = this.calls
      .ask(object, "rollBack", charge, nowMs + this.config.deadlineMs)
      .catch((error: unknown) => {
        logFault("A charge could not be rolled back. It may deny too much for one window.", error, {
          object,
          id: charge.id,
        });
        return undefined;
      });
    waitUntil(rolledBack);
    return within(this.giveUpAtMs - nowMs, rolledBack, this.timing).catch(() => undefined);
  }

  /** Changes the event in all objects. It counts as found if any object has it: the key may have been reset in another. */
  async #change(method: "settle" | "release", question: EventQuestion): Promise<ChangeVerdict> {
    const parts = partsOf(question, this.config.placement);
    const verdicts = await Promise.all(
      parts.map(({ object, counters }) => this.#askRequired(object, method, { ...question, counters })),
    );
    return { ...joinVerdicts(parts, verdicts), found: verdicts.some((verdict) => verdict?.found === true) };
  }

  /** The verdict of an object; undefined if it is unreachable and its layers are left out. */
  async #askRequired<M extends Method>(
    object: string,
    method: M,
    question: QuestionOf<M>,
  ): Promise<VerdictOf<M> | undefined> {
    try {
      return await this.calls.ask(object, method, question, this.giveUpAtMs);
    } catch (error) {
      return this.ifUnreachable === "refuse" ? throwUnreachable(error) : logUnreachable(error);
    }
  }
}

/** Whether some limit does not admit the cost. */
function isExplained({ standings }: ObjectVerdict): boolean {
  return standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > 0));
}
