import type { ChangeVerdict, Charge, ChargeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";

/** Keeps work alive when its caller has hung up. */
export type WaitUntil = (work: Promise<unknown>) => void;

/** What a consume asks of the objects. */
export type ConsumeQuestion = Omit<Charge, "attempt" | "isOnlyPart">;

export interface ConsumeOptions {
  readonly waitUntil: WaitUntil;
  /** No earlier call has sent this id. Whether any other id was admitted, only the objects know. */
  readonly isNew: boolean;
  /** A check first is cheaper than a charge that most likely has to be rolled back. */
  readonly isLikelyDenied?: boolean;
}

export interface ConsumeVerdict extends ChargeVerdict {
  /** The keys whose charge was rolled back, or may have been. */
  readonly rolledBack?: readonly string[];
  /** The denial cache answered: no object was asked. */
  readonly isCached?: boolean;
}

/**
 * The objects, as a limiter sees them: one question, one verdict, however many objects hold its counters. `FanOut` asks
 * them. `OrderedObjects` and `CachedObjects` stand before it and have the same interface.
 *
 * Every call throws a Refusal: `unreachable`, and a consume also `reused-id`.
 */
export interface Objects {
  /** Would the objects admit the cost now? Records nothing. */
  check(question: Question): Promise<ObjectVerdict>;
  /** Records the cost in all counters, or in none. */
  consume(question: ConsumeQuestion, options: ConsumeOptions): Promise<ConsumeVerdict>;
  /** Sets the cost of an event. */
  settle(question: EventQuestion): Promise<ChangeVerdict>;
  /** Ends an event for concurrent limits. */
  release(question: EventQuestion): Promise<ChangeVerdict>;
}

export function keysOf({ counters }: Pick<Question, "counters">): string[] {
  return counters.map(({ key }) => key);
}
