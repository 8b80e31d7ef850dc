import type { Charge } from "./protocol";

/** How many attempts are remembered: far more than an object ends while a call is in flight. */
const MOST_ATTEMPTS = 4_096;

/**
 * The attempts that this object has denied or rolled back. A call may arrive late, or twice. Once its attempt was denied, it
 * must charge nothing: otherwise the id would be known by an attempt that admitted nobody. Memory is enough, since a call
 * that was sent to an object does not reach it after a restart.
 */
export class EndedAttempts {
  /** The oldest first. */
  readonly #attempts = new Set<string>();
  /** The attempts that the current transaction ends. */
  readonly #ending = new Set<string>();

  has(charge: Charge): boolean {
    const name = nameOf(charge);
    return this.#attempts.has(name) || this.#ending.has(name);
  }

  end(charge: Charge): void {
    this.#ending.add(nameOf(charge));
  }

  /** Ends the transaction. If it failed, its denials do not count: the calls are decided again. */
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
