import type { Placement } from "../config/config";
import type { Answer, AskedCounter, EventAnswer } from "../object/protocol";
import { type Timing, within } from "./deadline";
import type { Consumed } from "./fan-out";
import { objectOf } from "./placement";
import { Refusal } from "./refusal";

/** A request, as far as others of its batch can meet it. */
interface Request {
  readonly counters: readonly AskedCounter[];
  readonly id?: string | undefined;
}

/** What may be wrong with an answer: a charge that is rolled back can have caused it. */
interface Doubt {
  /** The keys at which such a charge can have been in the way. */
  readonly keys: readonly string[];
  /** The id of the charge, when no other one can have caused the answer. */
  readonly id?: string | undefined;
}

/** What an attempt came to. */
interface Ending {
  /** The keys whose charge was rolled back, or may have been. */
  readonly rolledBack: readonly string[];
  readonly doubt: Doubt | undefined;
}

type Asking<A> = (isLikelyDenied: boolean) => Promise<A>;
type Next = "done" | "unknown" | { readonly isLikelyDenied: boolean };

const NOTHING: Ending = { rolledBack: [], doubt: undefined };

/** A decision of the batch. It may be asked more than once: each time is an attempt, numbered from 1. */
class Member {
  attempts = 0;
  /** By attempt. */
  readonly rolledBack: (readonly string[])[] = [];
  #isOver = false;
  #waiting: (() => void)[] = [];

  constructor(
    readonly kind: "consume" | "check" | "change",
    readonly position: number,
    readonly keys: readonly string[],
    readonly id: string | undefined,
    /** A charge in several objects is rolled back when one of them denies. */
    readonly mayRollBack: boolean,
  ) {}

  begin(): void {
    this.attempts++;
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** That attempt has ended, and whether another one follows is known. */
  isPast(attempt: number): boolean {
    return this.#isOver || this.attempts > attempt;
  }

  async past(attempt: number): Promise<void> {
    while (!this.isPast(attempt)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/**
 * Lets the decisions of a batch, which are made side by side, answer as if they were made one after the other. A decision
 * over several objects charges some of them although another one denies, and for that moment its charge can deny a later
 * call, or be found by its settle. Such a call waits for the earlier ones that can be to blame, and is decided again when
 * their charges were rolled back. All calls of the batch that are decided again are so together, in their order. Waits
 * go to smaller positions only, so nobody waits in a circle.
 */
export class BatchOrder {
  /** They join in the order of the batch, each when it first asks an object. */
  readonly #members: Member[] = [];

  constructor(
    private readonly placement: Placement,
    private readonly timing: Timing,
    /** A denial by these keys could not be made sure of. */
    private readonly whenUnsure: (keys: readonly string[]) => void,
  ) {}

  /** Some call has asked about one of these keys, to charge it or to change what it was charged. */
  isMet(keys: readonly string[]): boolean {
    return this.#members.some((member) => member.kind !== "check" && meet(member.keys, keys));
  }

  /**
   * Waits until the live layers have decided the whole batch, so that layers in shadow are asked about all of it together.
   * An object that is silent delays that by half of the time that is left.
   */
  async decided(giveUpAtMs: number): Promise<void> {
    await this.#past(this.#members, Number.POSITIVE_INFINITY, this.#halfWayTo(giveUpAtMs));
  }

  consume(position: number, { counters, id }: Request, giveUpAtMs: number, ask: Asking<Consumed>): Promise<Consumed> {
    const keys = keysOf(counters);
    const objects = new Set(keys.map((key) => objectOf(key, this.placement)));
    const member = this.#join(new Member("consume", position, keys, id, objects.size > 1));
    return this.#decide(member, giveUpAtMs, ask, (outcome) => {
      // It may have been charged anywhere.
      if (outcome.status === "rejected")
        return { rolledBack: keys, doubt: isConflict(outcome.reason) ? { keys, id } : undefined };
      const { allowed, rolledBack = [] } = outcome.value;
      return allowed ? NOTHING : { rolledBack, doubt: { keys: denyingKeys(counters, outcome.value) } };
    });
  }

  check(position: number, { counters }: Request, giveUpAtMs: number, ask: Asking<Answer>): Promise<Answer> {
    const member = this.#join(new Member("check", position, keysOf(counters), undefined, false));
    return this.#decide(member, giveUpAtMs, ask, (outcome) => {
      const isDenied = outcome.status === "fulfilled" && !outcome.value.allowed;
      return isDenied ? { rolledBack: [], doubt: { keys: denyingKeys(counters, outcome.value) } } : NOTHING;
    });
  }

  /** A settle or a release: of an event that is rolled back it finds nothing. */
  change(
    position: number,
    { counters, id }: Request,
    giveUpAtMs: number,
    ask: Asking<EventAnswer>,
  ): Promise<EventAnswer> {
    const keys = keysOf(counters);
    const member = this.#join(new Member("change", position, keys, id, false));
    return this.#decide(member, giveUpAtMs, ask, (outcome) => {
      if (outcome.status === "rejected") return NOTHING;
      return { rolledBack: [], doubt: { keys: outcome.value.found ? keys : [], id } };
    });
  }

  #join(member: Member): Member {
    this.#members.push(member);
    return member;
  }

  /** Asks, and asks again, until no earlier call of the batch can have caused the answer. */
  async #decide<A>(
    member: Member,
    giveUpAtMs: number,
    ask: Asking<A>,
    endingOf: (outcome: PromiseSettledResult<A>) => Ending,
  ): Promise<A> {
    try {
      for (let isLikelyDenied = false; ; ) {
        member.begin();
        const [outcome] = await Promise.allSettled([ask(isLikelyDenied)]);
        const { rolledBack, doubt } = endingOf(outcome);
        member.rolledBack.push(rolledBack);
        const next = doubt ? await this.#next(member, doubt, giveUpAtMs) : "done";
        if (next === "unknown") this.whenUnsure(member.keys);
        if (next === "unknown" && doubt?.id !== undefined)
          throw new Refusal("unreachable", "The counters could not be reached in time. Try again.");
        if (typeof next === "object") isLikelyDenied = next.isLikelyDenied;
        else if (outcome.status === "fulfilled") return outcome.value;
        else throw outcome.reason;
      }
    } finally {
      member.end();
    }
  }

  async #next(member: Member, { keys, id }: Doubt, giveUpAtMs: number): Promise<Next> {
    const attempt = member.attempts;
    const earlier = this.#members.filter(
      (one) => one.kind !== "check" && one.position < member.position && meet(one.keys, member.keys),
    );
    const suspects = earlier.filter((one) =>
      id === undefined ? one.mayRollBack && meet(one.keys, keys) : one.kind === "consume" && one.id === id,
    );
    const isAhead = (one: Member) => one.attempts > attempt;
    // Its next attempt may have been in the way already.
    const wasOvertaken = suspects.some(isAhead);
    if (!(await this.#past(suspects, attempt, giveUpAtMs))) return "unknown";
    const freed = new Set(suspects.flatMap(({ rolledBack }) => rolledBack[attempt - 1] ?? []));
    const isAskedAgain = wasOvertaken || (id !== undefined && suspects.some(isAhead));
    if (!isAskedAgain && !keys.some((key) => freed.has(key))) return "done";
    // In order with all that is decided again. An object that is silent delays that by half of the time that is left.
    await this.#past(earlier, attempt, this.#halfWayTo(giveUpAtMs));
    if (this.timing.now() >= giveUpAtMs) return "unknown";
    return { isLikelyDenied: keys.some((key) => !freed.has(key)) };
  }

  #halfWayTo(giveUpAtMs: number): number {
    return (this.timing.now() + giveUpAtMs) / 2;
  }

  /** False when that took too long. */
  async #past(members: readonly Member[], attempt: number, untilMs: number): Promise<boolean> {
    const isPast = () => members.every((member) => member.isPast(attempt));
    if (isPast()) return true;
    const all = Promise.all(members.map((member) => member.past(attempt)));
    await within(untilMs - this.timing.now(), all, this.timing).catch(() => {});
    return isPast();
  }
}

function keysOf(counters: readonly AskedCounter[]): string[] {
  return counters.map(({ key }) => key);
}

/** The keys that the cost does not fit. */
function denyingKeys(counters: readonly AskedCounter[], { standings }: Answer): string[] {
  return keysOf(counters.filter((_, c) => standings[c]?.some(({ fitsInMs }) => fitsInMs > 0)));
}

function meet(keys: readonly string[], others: readonly string[]): boolean {
  return keys.some((key) => others.includes(key));
}

function isConflict(error: unknown): boolean {
  return error instanceof Refusal && error.kind === "reused-id";
}
