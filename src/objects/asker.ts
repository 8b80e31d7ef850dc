import type { Charge, ChargeVerdict, Question } from "../object/protocol";
import type { IfUnreachable } from "./unreachable";

/** Keeps work alive when its caller has hung up. */
export type WaitUntil = (work: Promise<unknown>) => void;

/** What a consume asks of the objects. */
export type ConsumeQuestion = Omit<Charge, "attempt" | "isOnlyPart"> & Required<Pick<Charge, "aliases" | "attemptMs">>;

/** A decision, as it asks the objects. A decision asks about its live layers first, and then about those in shadow. */
export class Asker {
  #attempts = 0;

  constructor(
    /** Other askers have other names. */
    private readonly name: string,
    /** In its batch. */
    readonly position: number,
    /** The deadline of the whole decision: all attempts, all rounds and waiting for a rollback. */
    readonly giveUpAtMs: number,
    readonly ifUnreachable: IfUnreachable,
    readonly waitUntil: WaitUntil = () => {},
  ) {}

  /** The name of its next attempt to charge. */
  nextAttempt(): string {
    this.#attempts++;
    return this.#attempts === 1 ? this.name : `${this.name}.${this.#attempts}`;
  }
}

export interface ConsumeVerdict extends ChargeVerdict {
  /** The keys whose charge was rolled back, or may have been. */
  readonly rolledBack?: readonly string[];
  /** The denial cache answered: no object was asked. */
  readonly isCached?: boolean;
}

export function keysOf({ counters }: Pick<Question, "counters">): string[] {
  return counters.map(({ key }) => key);
}
