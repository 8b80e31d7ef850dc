import type { Placement } from "../config/config";
import type { Counter } from "../object/protocol";
import { keysOf } from "./asker";
import { objectOf } from "./placement";

/** A question, as far as it can meet others of its batch. */
export interface BatchQuestion {
  readonly counters: readonly Counter[];
  readonly id?: string | undefined;
}

/** A decision of the batch. It may take several rounds, numbered from 1: in each it asks the objects. */
export class Member {
  rounds = 1;
  /** By round. */
  readonly rolledBack: (readonly string[])[] = [];
  #isOver = false;
  #waiting: (() => void)[] | undefined;

  constructor(
    readonly kind: "consume" | "check" | "change",
    readonly position: number,
    readonly question: BatchQuestion,
  ) {}

  get keys(): readonly string[] {
    return keysOf(this.question);
  }

  /** A charge in several objects is rolled back when one of them denies. */
  mayRollBack(placement: Placement): boolean {
    const [first, ...others] = this.keys.map((key) => objectOf(key, placement));
    return this.kind === "consume" && others.some((object) => object !== first);
  }

  begin(): void {
    this.rounds++;
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** The round has ended, and it is certain whether another round follows. */
  isPast(round: number): boolean {
    return this.#isOver || this.rounds > round;
  }

  async past(round: number): Promise<void> {
    while (!this.isPast(round))
      await new Promise<void>((resolve) => {
        this.#waiting ??= [];
        this.#waiting.push(resolve);
      });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    for (const resolve of waiting ?? []) resolve();
  }
}
