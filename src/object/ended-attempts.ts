import type { Charge } from "./protocol";

/** So many are remembered: far more than an object ends while a call may still be on its way. */
const MOST_ATTEMPTS = 4_096;

/**
 * The attempts that this object has denied or rolled back. A call may arrive late, and again: after its attempt was told a
 * denial it must charge nothing, or the id would be known by an attempt that admitted nobody. Held in memory alone: a call
 * that was sent to an object does not reach it once it has started anew.
 */
export class EndedAttempts {
  /** The oldest first. */
  readonly #attempts = new Set<string>();
  /** Those of the transaction under way. */
  readonly #ending = new Set<string>();

  has(charge: Charge): boolean {
    const name = nameOf(charge);
    return this.#attempts.has(name) || this.#ending.has(name);
  }

  end(charge: Charge): void {
    this.#ending.add(nameOf(charge));
  }

  /** The transaction has ended: what it denied was denied if it succeeded, and is decided again if it failed. */
  conclude(hasSucceeded: boolean): void {
    if (hasSucceeded) for (const name of this.#ending) this.#attempts.add(name);
    this.#ending.clear();
    for (const oldest of this.#attempts) {
      if (this.#attempts.size <= MOST_ATTEMPTS) break;
      this.#attempts.delete(oldest);
    }
  }
}

function nameOf({ attempt, id }: Charge): string {
  return `${attempt} ${id}`;
}
