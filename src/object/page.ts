import type { StoredEvent } from "./protocol";

/** A page is sealed once its events take this many characters: measured, see docs/storage.md. */
export const PAGE_CHARS = 2_000;

/** The counters of one key that an event was charged to, and how long it is remembered. */
export interface Charged {
  readonly policy: string;
  readonly layers: readonly string[];
  readonly keepMs: number;
}

export interface PagedEvent extends StoredEvent {
  readonly charged: Charged;
  readonly subject: string;
  /** The cost it was admitted with: `cost` is another once it was settled. */
  readonly admittedCost: number;
  /** It is over, and no limit on what is under way counts it any more. */
  readonly released: boolean;
  /** The attempts that rely on it, the one that recorded it first. */
  readonly claims: readonly string[];
}

/** What a page's text holds: docs/storage.md is its contract. */
interface PageText {
  v: 1;
  /** The instant that the events' times are relative to. */
  at: number;
  charged: [policy: string, layers: readonly string[], keepMs: number][];
  events: [
    afterMs: number,
    charged: number,
    cost: number,
    id: string,
    subject: string,
    claims: readonly string[],
    admittedCost?: number,
    released?: 1,
  ][];
}

/**
 * A run of one key's events, in the order they were admitted, as the text of one row. Appending only appends to a
 * string: nothing is parsed or encoded again for the next event.
 */
export class Page {
  /** When the last of the events is forgotten. */
  expiresAtMs = 0;
  /** When the first and the last of the events were admitted: 0 while there are none, or were none yet. */
  firstAtMs = 0;
  lastAtMs = 0;
  readonly #charged: Charged[] = [];
  #events = "";

  constructor(readonly slot: number) {}

  /** `lastAtMs`: when its last event was admitted, also if that was taken out since. */
  static holding(slot: number, events: readonly PagedEvent[], lastAtMs = 0): Page {
    const page = new Page(slot);
    for (const event of events) page.append(event);
    page.lastAtMs = Math.max(page.lastAtMs, lastAtMs);
    // One that is empty is kept for as long, before a sweep may forget that instant.
    page.expiresAtMs = Math.max(page.expiresAtMs, lastAtMs);
    return page;
  }

  /** In characters of the events' text. */
  get length(): number {
    return this.#events.length;
  }

  append({ atMs, charged, cost, id, subject, claims, admittedCost, released }: PagedEvent): void {
    if (this.#events === "") this.firstAtMs = atMs;
    const record: PageText["events"][number] = [
      atMs - this.firstAtMs,
      this.#indexOf(charged),
      cost,
      id,
      subject,
      claims,
    ];
    if (released) record.push(admittedCost, 1);
    else if (admittedCost !== cost) record.push(admittedCost);
    this.#events += `${this.#events ? "," : ""}${JSON.stringify(record)}`;
    this.expiresAtMs = Math.max(this.expiresAtMs, atMs + charged.keepMs);
    this.lastAtMs = atMs;
  }

  /** False only if no event has this id: cheap, for most pages that are asked. */
  mayHold(id: string): boolean {
    return this.#events.includes(`"${id}"`);
  }

  toText(): string {
    const charged = this.#charged.map(({ policy, layers, keepMs }) => [policy, layers, keepMs]);
    return `{"v":1,"at":${this.firstAtMs},"charged":${JSON.stringify(charged)},"events":[${this.#events}]}`;
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
  return page.events.map(([afterMs, index, cost, id, subject, claims, admittedCost = cost, released]) => ({
    id,
    atMs: page.at + afterMs,
    cost,
    charged: charged[index] as Charged,
    subject,
    claims,
    admittedCost,
    released: released === 1,
  }));
}
