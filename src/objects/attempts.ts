import type { Config } from "../config/config";
import { earlierMakersOf, type HeldId, recognise } from "../core/recognition";
import { logFault } from "../fault";
import type { Charge, ChargeVerdict, ObjectVerdict } from "../object/protocol";
import { Refusal } from "../request/refusal";
import { type Asker, type ConsumeQuestion, type ConsumeVerdict, keysOf } from "./asker";
import { type Hearer, hear, heard, type ObjectCalls } from "./calls";
import { NotSentError, within } from "./deadline";
import { byCounter, joinCharges, type Part, partsOf } from "./parts";
import type { Timing } from "./timing";
import { logUnreachable, throwUnreachable } from "./unreachable";

/** How many attempts a consume makes at most, when no limit explains its denial. */
const MOST_ATTEMPTS = 3;

/** The share of its time that a charge over several objects keeps for rolling back. */
const ROLLBACK_SHARE = 0.2;

/** The charge of one part, and what its object says of it. */
class PartCharge implements Hearer<ChargeVerdict> {
  /** Undefined until the object has answered, and if it is unreachable. */
  verdict: ChargeVerdict | undefined;
  /** It was never sent, so nothing of it has to be rolled back. */
  isUnsent = false;

  constructor(
    readonly part: Part,
    readonly charge: Charge,
    private readonly onHeard: { partHeard(): void },
  ) {}

  answered(verdict: ChargeVerdict): void {
    this.verdict = verdict;
    this.onHeard.partHeard();
  }

  failed(error: unknown): void {
    this.isUnsent = error instanceof NotSentError;
    logUnreachable(error);
    this.onHeard.partHeard();
  }
}

/**
 * The attempts of one consume to charge all of its parts. An attempt charges them in one round of calls. Nearly always that
 * decides. Only if something must be rolled back or charged again, there are later rounds.
 */
export class Attempts {
  readonly #parts: readonly Part[];
  #count = 0;
  #charges: readonly PartCharge[] = [];
  /** How many parts of the first round have not answered. */
  #unheard = 0;
  #chargeUntilMs = 0;

  constructor(
    private readonly calls: ObjectCalls,
    private readonly config: Pick<Config, "placement" | "deadlineMs">,
    private readonly timing: Timing,
    private readonly question: ConsumeQuestion,
    private readonly asker: Asker,
    private readonly hearer: Hearer<ConsumeVerdict>,
  ) {
    this.#parts = partsOf(question, config.placement);
  }

  /** Begins an attempt: charges all parts. */
  begin(): void {
    this.#count++;
    const attempt = this.asker.nextAttempt();
    const isOnlyPart = this.#parts.length === 1;
    this.#chargeUntilMs = isOnlyPart ? this.asker.giveUpAtMs : this.#beforeRollback();
    this.#charges = this.#parts.map((part) => {
      const charge = chargeOf(this.question, part.counters, attempt, isOnlyPart);
      return new PartCharge(part, charge, this);
    });
    this.#unheard = this.#charges.length;
    for (const charge of this.#charges) this.#send(charge);
    // All layers are in shadow.
    if (this.#charges.length === 0) this.#decide();
  }

  /** The object of a part has answered, or is unreachable. */
  partHeard(): void {
    this.#unheard--;
    if (this.#unheard === 0) this.#decide();
  }

  #decide(): void {
    try {
      const verdict = this.#decidedAtOnce();
      if (verdict) this.#end(verdict);
      else
        hear(this.#decideFurther(), {
          answered: (verdict) => this.#end(verdict),
          failed: (error) => this.hearer.failed(error),
        });
    } catch (error) {
      this.hearer.failed(error);
    }
  }

  #beforeRollback(): number {
    const nowMs = this.timing.now();
    return nowMs + (1 - ROLLBACK_SHARE) * (this.asker.giveUpAtMs - nowMs);
  }

  #send(charge: PartCharge): void {
    this.calls.ask(charge.part.object, "consume", charge.charge, this.#chargeUntilMs, this.asker.position, charge);
  }

  /** @throws Refusal */
  #end(verdict: ConsumeVerdict): void {
    if (verdict.conflicts && this.asker.ifUnreachable === "refuse")
      throw new Refusal("reused-id", "This idempotency key was used with another policy or cost. Use a new key.");
    // No limit explains this denial: the object denied the attempt, its answer was lost, and there was room when the call
    // was sent again. A denied attempt can't charge any more (`object/ended-attempts.ts`), so make a new attempt.
    const isFinal = verdict.allowed || verdict.conflicts || isExplained(verdict) || this.#count === MOST_ATTEMPTS;
    if (isFinal) this.hearer.answered(verdict);
    else this.begin();
  }

  /** The verdict if the first round decides: the only part decides alone; all parts were charged and none knew the id. */
  #decidedAtOnce(): ConsumeVerdict | undefined {
    const charges = this.#charges;
    const [first] = charges;
    if (charges.length !== 1)
      return charges.every(isChargedAnew) ? joinCharges(this.#parts, this.#verdicts) : undefined;
    if (first?.verdict) return first.verdict;
    return this.asker.ifUnreachable === "refuse" ? throwUnreachable() : joinCharges(this.#parts, this.#verdicts);
  }

  get #verdicts(): (ChargeVerdict | undefined)[] {
    return this.#charges.map(({ verdict }) => verdict);
  }

  /**
   * A part that holds the id may have charged nothing and returned what it holds. Charges these parts too if the id must be
   * charged anew. Rolls back all parts if one has denied.
   */
  async #decideFurther(): Promise<ConsumeVerdict> {
    const parts = this.#parts;
    const charges = this.#charges;
    const first = this.#verdicts;
    const held = byCounter<ChargeVerdict, HeldId | undefined>(parts, first, ({ held }, i) => held?.[i], undefined);
    const layers = this.question.counters.map(({ layer }) => layer);
    const recognition = recognise(layers, held);
    if (recognition === "known") return this.#replay();

    const conflicts = recognition === "conflict";
    const hasFailed = conflicts || first.some((verdict) => !verdict?.allowed);
    const recognised = {
      recognition: conflicts ? "new" : recognition,
      earlierMakers: earlierMakersOf(recognition, held[0]),
    } as const;
    const verdicts = hasFailed ? first : await this.#chargeAgain(recognised);
    if (!conflicts && verdicts.every((verdict) => verdict?.allowed)) {
      const joined = joinCharges(parts, verdicts);
      // Also a replay: only a later layer knows the id, from a decision before the first layer was live.
      return { ...joined, replayed: joined.replayed || (recognition === "torn" && !held[0]) };
    }

    const rolledBack = await Promise.all(charges.map((charge, i) => this.#rolledBack(charge, verdicts[i])));
    const isDenied = verdicts.some((verdict) => verdict?.allowed === false);
    if (!conflicts && !isDenied && this.asker.ifUnreachable === "refuse") return throwUnreachable();
    const joined = joinCharges(parts, rolledBack);
    return {
      ...joined,
      allowed: !conflicts && joined.allowed,
      conflicts,
      charged: false,
      rolledBack: parts.filter((_, i) => verdicts[i]?.allowed ?? true).flatMap(keysOf),
    };
  }

  /** The second round: charges the parts that have charged nothing. */
  #chargeAgain(recognised: Pick<Charge, "recognition" | "earlierMakers">): Promise<(ChargeVerdict | undefined)[]> {
    const { position } = this.asker;
    const again = this.#charges.map(({ part: { object }, charge, verdict }) => {
      if (verdict?.charged !== false) return verdict;
      const ask = (hearer: Hearer<ChargeVerdict>) =>
        this.calls.ask(object, "consume", { ...charge, ...recognised }, this.#chargeUntilMs, position, hearer);
      return heard(ask).catch(logUnreachable);
    });
    return Promise.all(again);
  }

  /**
   * The verdict of a known id. Rolls back what the first round charged nevertheless: in a layer that took no part in the
   * decision since it became live later, or in an object by whose clock the id had left its window.
   */
  async #replay(): Promise<ChargeVerdict> {
    const isReplay = (verdict: ChargeVerdict | undefined) => verdict?.allowed === true && !verdict.charged;
    const verdicts = this.#charges.map((charge) =>
      isReplay(charge.verdict) ? charge.verdict : this.#rolledBack(charge, charge.verdict),
    );
    const joined = joinCharges(this.#parts, await Promise.all(verdicts));
    return { ...joined, allowed: true, replayed: true, conflicts: false, charged: false };
  }

  /** Rolls back a charge that was made, or may have been. Resolves to the verdict with the standings after that. */
  async #rolledBack(charge: PartCharge, verdict: ChargeVerdict | undefined): Promise<ChargeVerdict | undefined> {
    // An unreachable object may have recorded the charge. Roll back there too, but do not wait for it again.
    if (verdict === undefined && !charge.isUnsent) void this.#rollBack(charge);
    if (!verdict?.allowed) return verdict;
    const standings = await this.#rollBack(charge);
    if (!standings) return verdict;
    const { replayed, conflicts, charged } = verdict;
    return { ...standings, allowed: true, replayed, conflicts, charged };
  }

  /** Rolls back with a full deadline, since the charge must not stay. The decision waits only for the time it has left. */
  #rollBack({ part: { object }, charge }: PartCharge): Promise<ObjectVerdict | undefined> {
    const { giveUpAtMs, position, waitUntil } = this.asker;
    const nowMs = this.timing.now();
    const ask = (hearer: Hearer<ObjectVerdict>) =>
      this.calls.ask(object, "rollBack", charge, nowMs + this.config.deadlineMs, position, hearer);
    const rolledBack = heard(ask).catch((error: unknown) => {
      logFault("rollback_failed", error);
      return undefined;
    });
    waitUntil(rolledBack);
    return within(giveUpAtMs - nowMs, rolledBack, this.timing).catch(() => undefined);
  }
}

/** One literal and no spread: this is made for every decision. */
function chargeOf(
  question: ConsumeQuestion,
  counters: Charge["counters"],
  attempt: string,
  isOnlyPart: boolean,
): Charge {
  const { policy, cost, id, identity, aliases, windowMs, attemptMs, cacheMs } = question;
  const charge = { policy, cost, counters, id, identity, aliases, windowMs, attemptMs, cacheMs, attempt, isOnlyPart };
  return question.recognition ? { ...charge, recognition: question.recognition } : charge;
}

/** The charge counts as of now, and the object holds nothing else of the id. */
function isChargedAnew({ verdict }: PartCharge): boolean {
  return verdict?.allowed === true && verdict.charged && (verdict.held ?? []).every((held) => held === null);
}

/** Whether some limit does not admit the cost. */
function isExplained({ standings }: ObjectVerdict): boolean {
  return standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > 0));
}
