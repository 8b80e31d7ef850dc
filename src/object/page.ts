import type { StoredEvent } from "./protocol";

/** A page is sealed once its events take this many characters: measured, see docs/storage.md. */
export const PAGE_CHARS = 2_000;

/** The counters of one key that an event was charged to, and how long after it the last of them forgets it. */
export interface Charged {
  readonly policy: string;
  readonly layers: readonly string[];
  readonly keepMs: number;
}

export interface PagedEvent extends StoredEvent {
  readonly charged: Charged;
}

/** What a page's text holds: docs/storage.md is its contract. */
interface PageText {
  v: 1;
  /** The instant that the events' times are relative to. */
  at: number;
  charged: [policy: string, layers: readonly string[], keepMs: number][];
  events: [afterMs: number, charged: number, cost: number, id: string][];
}

/**
 * A run of one key's events, in the order they were admitted, as the text of one row. Appending only appends to a
 * string: nothing is parsed or encoded again for the next event.
 */
export class Page {
  /** When the last of the events is forgotten. */
  expiresAtMs = 0;
  readonly #atMs: number;
  readonly #charged: Charged[] = [];
  #events = "";

  constructor(
    readonly slot: number,
    atMs: number,
  ) {
    this.#atMs = atMs;
  }

  static holding(slot: number, events: readonly PagedEvent[]): Page {
    const page = new Page(slot, events[0]?.atMs ?? 0);
    for (const event of events) page.append(event);
    return page;
  }

  /** In characters of the events' text. */
  get length(): number {
    return this.#events.length;
  }

  get isFull(): boolean {
    return this.length >= PAGE_CHARS;
  }

  append(event: PagedEvent): void {
    const record = [event.atMs - this.#atMs, this.#indexOf(event.charged), event.cost, event.id];
    this.#events += `${this.#events ? "," : ""}${JSON.stringify(record)}`;
    this.expiresAtMs = Math.max(this.expiresAtMs, event.atMs + event.charged.keepMs);
  }

  toText(): string {
    const charged = this.#charged.map(({ policy, layers, keepMs }) => [policy, layers, keepMs]);
    return `{"v":1,"at":${this.#atMs},"charged":${JSON.stringify(charged)},"events":[${this.#events}]}`;
  }

  #indexOf({ policy, layers, keepMs }: Charged): number {
    const same = (other: Charged) =>
      other.policy === policy && other.keepMs === keepMs && other.layers.join() === layers.join();
    const index = this.#charged.findIndex(same);
    return index < 0 ? this.#charged.push({ policy, layers, keepMs }) - 1 : index;
  }
}

export function readPage(text: string): PagedEvent[] {
  const page = JSON.parse(text) as PageText;
  const charged = page.charged.map(([policy, layers, keepMs]): Charged => ({ policy, layers, keepMs }));
  return page.events.map(([afterMs, index, cost, id]) => ({
    id,
    atMs: page.at + afterMs,
    cost,
    charged: charged[index] as Charged,
  }));
}
