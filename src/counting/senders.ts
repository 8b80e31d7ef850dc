/** Which sums these are: of one isolate, by the order in which it sends them. */
export interface SumsId {
  readonly sender: string;
  /** Goes up with every sums of a sender. Sums that are sent again keep theirs. */
  readonly sequence: number;
}

/** Longer than a sender sends the same sums again: see `outbox.ts`. */
const REMEMBERED_MS = 3_600_000;
/** Isolates that send to one object in an hour, by far. */
const MOST_SENDERS = 4_096;

/** As stored. */
export type StoredSenders = [sender: string, sequence: number, atMs: number][];

/**
 * The last sums of each sender. Sums that arrive again are known by it. A sender that has not sent for an hour is
 * forgotten, or before if there are too many.
 */
export class Senders {
  /** The one that sent last comes last. */
  readonly #last = new Map<string, { readonly sequence: number; readonly atMs: number }>();

  constructor(stored: StoredSenders = []) {
    for (const [sender, sequence, atMs] of stored) this.#last.set(sender, { sequence, atMs });
  }

  has({ sender, sequence }: SumsId): boolean {
    return sequence <= (this.#last.get(sender)?.sequence ?? Number.NEGATIVE_INFINITY);
  }

  add({ sender, sequence }: SumsId, nowMs: number): void {
    this.#last.delete(sender);
    this.#last.set(sender, { sequence, atMs: nowMs });
    for (const [oldest, { atMs }] of this.#last) {
      if (this.#last.size <= MOST_SENDERS && atMs > nowMs - REMEMBERED_MS) break;
      this.#last.delete(oldest);
    }
  }

  stored(): StoredSenders {
    return [...this.#last].map(([sender, { sequence, atMs }]) => [sender, sequence, atMs]);
  }
}
