import type { Placement } from "../config/config";
import type { ChangeVerdict, ObjectVerdict } from "../object/protocol";
import { Refusal } from "../request/refusal";
import type { ConsumeVerdict } from "./asker";
import { type BatchQuestion, Member } from "./batch-member";
import { within } from "./deadline";
import type { Timing } from "./timing";
import { throwUnreachable } from "./unreachable";

/** Why a verdict may be wrong: a charge that is rolled back can have caused it. */
interface Doubt {
  /** The keys at which such a charge can have been in the way. */
  readonly keys: readonly string[];
  /** The id of the charge, if no other charge can have caused the verdict. */
  readonly id?: string | undefined;
}

/** What one round of a decision came to. */
interface RoundEnd {
  /** The keys whose charge was rolled back, or may have been. */
  readonly rolledBack: readonly string[];
  readonly doubt: Doubt | undefined;
}

type Ask<V> = (isLikelyDenied: boolean) => Promise<V>;
type Next = "done" | "unsure" | { readonly isLikelyDenied: boolean };

const CERTAIN: RoundEnd = { rolledBack: [], doubt: undefined };

/**
 * Lets the decisions of a batch, which are made side by side, answer as if they were made one after the other.
 *
 * A decision over several objects charges some of them even if another denies. Until that is rolled back, the charge can
 * deny a later call of the batch, or its settle can find it. Such a call waits for the earlier calls that can have caused
 * its verdict, and is decided again if their charges were rolled back. All calls that are decided again are so together,
 * in their order. A call waits only for smaller positions, so no two wait for each other.
 */
export class BatchOrder {
  /** In the order of the batch: each decision joins when it first asks an object. */
  readonly #members: Member[] = [];

  constructor(
    private readonly placement: Placement,
    private readonly timing: Timing,
    /** Called with the keys of a denial that could not be confirmed. */
    private readonly onUnsure: (keys: readonly string[]) => void,
  ) {}

  /** An earlier call of the batch charges or changes one of these keys. */
  mayChange(keys: readonly string[]): boolean {
    return this.#members.some((member) => member.kind !== "check" && meet(member.keys, keys));
  }

  /**
   * Waits until the live layers have decided the whole batch, so that layers in shadow are asked about all of it together.
   * An unreachable object delays that by half of the time that is left.
   */
  async decided(giveUpAtMs: number): Promise<void> {
    await this.#past(this.#members, Number.POSITIVE_INFINITY, this.#halfWayTo(giveUpAtMs));
  }

  /** A consume joins, and begins its first round. An admission ends it, anything else goes on with `consumeAgain`. */
  join(position: number, question: BatchQuestion): Member {
    return this.#join(new Member("consume", position, question));
  }

  /** Decides a consume that was denied or has failed: an earlier call of the batch can have caused that. */
  consumeAgain(
    member: Member,
    first: PromiseSettledResult<ConsumeVerdict>,
    giveUpAtMs: number,
    ask: Ask<ConsumeVerdict>,
  ): Promise<ConsumeVerdict> {
    const { question, keys } = member;
    const endOf = (outcome: PromiseSettledResult<ConsumeVerdict>): RoundEnd => {
      // A consume that failed may have charged any of its objects.
      if (outcome.status === "rejected")
        return { rolledBack: keys, doubt: isConflict(outcome.reason) ? { keys, id: question.id } : undefined };
      const { allowed, rolledBack = [] } = outcome.value;
      return allowed ? CERTAIN : { rolledBack, doubt: { keys: denyingKeys(question, outcome.value) } };
    };
    return this.#decide(member, first, giveUpAtMs, ask, endOf);
  }

  async check(
    position: number,
    question: BatchQuestion,
    giveUpAtMs: number,
    ask: Ask<ObjectVerdict>,
  ): Promise<ObjectVerdict> {
    const member = this.#join(new Member("check", position, question));
    return this.#decide(member, await outcomeOf(ask(false)), giveUpAtMs, ask, (outcome) => {
      const isDenied = outcome.status === "fulfilled" && !outcome.value.allowed;
      return isDenied ? { rolledBack: [], doubt: { keys: denyingKeys(question, outcome.value) } } : CERTAIN;
    });
  }

  /** A settle or a release. It would not find an event that is rolled back. */
  async change(
    position: number,
    question: BatchQuestion,
    giveUpAtMs: number,
    ask: Ask<ChangeVerdict>,
  ): Promise<ChangeVerdict> {
    const member = this.#join(new Member("change", position, question));
    return this.#decide(member, await outcomeOf(ask(false)), giveUpAtMs, ask, (outcome) => {
      if (outcome.status === "rejected") return CERTAIN;
      return { rolledBack: [], doubt: { keys: outcome.value.found ? member.keys : [], id: question.id } };
    });
  }

  #join(member: Member): Member {
    this.#members.push(member);
    return member;
  }

  /** Asks until no earlier call of the batch can have caused the verdict. Each round is caused by an earlier call's round. */
  async #decide<V>(
    member: Member,
    first: PromiseSettledResult<V>,
    giveUpAtMs: number,
    ask: Ask<V>,
    endOf: (outcome: PromiseSettledResult<V>) => RoundEnd,
  ): Promise<V> {
    let outcome = first;
    try {
      for (;;) {
        const { rolledBack, doubt } = endOf(outcome);
        member.rolledBack.push(rolledBack);
        const next: Next = doubt ? await this.#next(member, doubt, giveUpAtMs) : "done";
        if (next === "unsure") this.onUnsure(member.keys);
        if (next === "unsure" && doubt?.id !== undefined) throwUnreachable();
        if (typeof next === "string") {
          if (outcome.status === "fulfilled") return outcome.value;
          throw outcome.reason;
        }
        member.begin();
        outcome = await outcomeOf(ask(next.isLikelyDenied));
      }
    } finally {
      member.end();
    }
  }

  async #next(member: Member, { keys, id }: Doubt, giveUpAtMs: number): Promise<Next> {
    const round = member.rounds;
    const earlier = this.#members.filter(
      (other) => other.kind !== "check" && other.position < member.position && meet(other.keys, member.keys),
    );
    const suspects = earlier.filter((other) =>
      id === undefined
        ? other.mayRollBack(this.placement) && meet(other.keys, keys)
        : other.kind === "consume" && other.question.id === id,
    );
    const isAhead = (other: Member) => other.rounds > round;
    // The next round of a suspect may have been in the way already.
    const wasOvertaken = suspects.some(isAhead);
    if (!(await this.#past(suspects, round, giveUpAtMs))) return "unsure";
    const freed = new Set(suspects.flatMap(({ rolledBack }) => rolledBack[round - 1] ?? []));
    const isAskedAgain = wasOvertaken || (id !== undefined && suspects.some(isAhead));
    if (!isAskedAgain && !keys.some((key) => freed.has(key))) return "done";
    // In order with everything that is decided again. An unreachable object delays that by half of the time left.
    await this.#past(earlier, round, this.#halfWayTo(giveUpAtMs));
    if (this.timing.now() >= giveUpAtMs) return "unsure";
    return { isLikelyDenied: keys.some((key) => !freed.has(key)) };
  }

  #halfWayTo(giveUpAtMs: number): number {
    return (this.timing.now() + giveUpAtMs) / 2;
  }

  /** Waits until all of them are past the round. False if that takes too long. */
  async #past(members: readonly Member[], round: number, untilMs: number): Promise<boolean> {
    const isPast = () => members.every((member) => member.isPast(round));
    if (isPast()) return true;
    const all = Promise.all(members.map((member) => member.past(round)));
    await within(untilMs - this.timing.now(), all, this.timing).catch(() => {});
    return isPast();
  }
}

/** The keys that the cost does not fit. */
function denyingKeys({ counters }: BatchQuestion, { standings }: ObjectVerdict): string[] {
  return counters.filter((_, c) => standings[c]?.some(({ fitsInMs }) => fitsInMs > 0)).map(({ key }) => key);
}

function meet(keys: readonly string[], others: readonly string[]): boolean {
  return keys.some((key) => others.includes(key));
}

async function outcomeOf<V>(answer: Promise<V>): Promise<PromiseSettledResult<V>> {
  const [outcome] = await Promise.allSettled([answer]);
  return outcome;
}

function isConflict(error: unknown): boolean {
  return error instanceof Refusal && error.kind === "reused-id";
}
