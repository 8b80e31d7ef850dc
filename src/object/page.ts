import type { LoggedEvent } from "../core/sliding-window";
import { type Claim, claimsIn, claimTexts } from "./claims";
import type { StoredEvent } from "./protocol";

/** A page is sealed once its events take this many characters: measured, see docs/storage.md. */
export const PAGE_CHARS = 2_000;

/** The counters of one key that an event was charged to, and for how long. */
export interface Charged {
  readonly policy: string;
  readonly layers: readonly string[];
  /** How long the event is kept at least. */
  readonly retainMs: number;
  /** How long its id is known. */
  readonly windowMs: number;
}

export interface PagedEvent extends StoredEvent, Pick<LoggedEvent, "released"> {
  readonly charged: Charged;
  readonly identity: string;
  /** The cost it was admitted with: `cost` is another once it was settled. */
  readonly admittedCost: number;
  readonly claims: readonly Claim[];
}

/** What a page's text holds: docs/storage.md is its contract. */
interface PageText {
  v: 1;
  /** The instant that the events' times are relative to. */
  at: number;
  charged: [policy: string, layers: readonly string[], retainMs: number, windowMs?: number][];
  events: [
    afterMs: number,
    charged: number,
    cost: number,
    id: string,
    identity: string,
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
  /** From when on none of the events is kept, and no window can see any. */
  expiresAtMs: number;
  /** When the first and the last of the events were admitted: 0 while there are none, or were none yet. */
  firstAtMs = 0;
  /** Also when that event was taken out since: time must not run back behind it. */
  lastAtMs: number;
  readonly #charged: Charged[] = [];
  #events = "";

  /** A page that holds `events`, and once held others: it is kept for as long as those were to be. */
  constructor(
    readonly slot: number,
    { expiresAtMs, lastAtMs }: { readonly expiresAtMs: number; readonly lastAtMs: number },
    events: readonly PagedEvent[] = [],
  ) {
    this.expiresAtMs = expiresAtMs;
    this.lastAtMs = lastAtMs;
    for (const event of events) this.append(event, 0);
  }

  /** In characters of the events' text. */
  get length(): number {
    return this.#events.length;
  }

  /** `untilMs`: from then on the event is not kept any more. */
  append({ atMs, charged, cost, id, identity, claims, admittedCost, released }: PagedEvent, untilMs: number): void {
    if (this.#events === "") this.firstAtMs = atMs;
    const record: PageText["events"][number] = [
      atMs - this.firstAtMs,
      this.#indexOf(charged),
      cost,
      id,
      identity,
      claimTexts(claims),
    ];
    if (released) record.push(admittedCost, 1);
    else if (admittedCost !== cost) record.push(admittedCost);
    this.#events += `${this.#events ? "," : ""}${JSON.stringify(record)}`;
    this.expiresAtMs = Math.max(this.expiresAtMs, untilMs);
    this.lastAtMs = Math.max(this.lastAtMs, atMs);
  }

  /** False only if no event has this id: cheap, for most pages that are asked. */
  mayHold(id: string): boolean {
    return this.#events.includes(`"${id}"`);
  }

  toText(): string {
    const charged = this.#charged.map(({ policy, layers, retainMs, windowMs }) => [policy, layers, retainMs, windowMs]);
    return `{"v":1,"at":${this.firstAtMs},"charged":${JSON.stringify(charged)},"events":[${this.#events}]}`;
  }

  #indexOf(charged: Charged): number {
    const { policy, layers, retainMs, windowMs } = charged;
    const same = (other: Charged) =>
      other.policy === policy &&
      other.retainMs === retainMs &&
      other.windowMs === windowMs &&
      other.layers.join() === layers.join();
    const index = this.#charged.findIndex(same);
    return index < 0 ? this.#charged.push(charged) - 1 : index;
  }
}

export function readPage(text: string): PagedEvent[] {
  const page = JSON.parse(text) as PageText;
  const charged = page.charged.map(
    // Pages of earlier code have no window of their own: an id was known for as long as its event was kept.
    ([policy, layers, retainMs, windowMs = retainMs]): Charged => ({ policy, layers, retainMs, windowMs }),
  );
  return page.events.map(([afterMs, index, cost, id, identity, claims, admittedCost = cost, released]) => ({
    id,
    atMs: page.at + afterMs,
    cost,
    charged: charged[index] as Charged,
    identity,
    claims: claimsIn(claims),
    admittedCost,
    released: released === 1,
  }));
}
