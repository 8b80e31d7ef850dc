import { claimsIn } from "./claims";
import { type Charged, type CountedEvent, type EventText, eventIn, type PagedEvent, textOfEvent } from "./event";
import type { PageChange, PageRow } from "./page-store";

/** A page is sealed once its events take this many characters. docs/storage.md has the measurements. */
export const PAGE_CHARS = 2_000;

/** The content of a page's text. docs/storage.md is its contract. */
export interface PageContent {
  readonly v: 1 | 2;
  /** The instant that the events' times are relative to. */
  readonly at: number;
  readonly charged: [policy: string, layers: readonly string[], retainMs: number, windowMs?: number][];
  readonly events: EventText[];
}

/**
 * A run of one key's events in the order of their admission, as the text of one row. To append an event is to append to a
 * string: no other event is parsed or encoded again.
 */
export class Page {
  /** The instant from which none of the events is kept. */
  expiresAtMs: number;
  /** When the first event was admitted. 0 without events. */
  firstAtMs = 0;
  /** When the last event was admitted, even if it was removed since: time must not go back before it. 0 without any. */
  lastAtMs: number;
  /** How its events were charged, each way once. */
  #charged: readonly Charged[] = [];
  /** The events' text as it was last stored, and what was appended since. */
  #stored = "";
  #appended = "";
  /** How much of `#charged` is stored. */
  #storedCharged = 0;
  #lastIdentity = "";
  #cachedHead: string | undefined;

  /** Makes a page with `events`. It may have had others, which its expiry and its last instant still count. */
  constructor(
    readonly slot: number,
    { expiresAtMs, lastAtMs }: { readonly expiresAtMs: number; readonly lastAtMs: number },
    events: readonly PagedEvent[] = [],
  ) {
    this.expiresAtMs = expiresAtMs;
    this.lastAtMs = lastAtMs;
    for (const event of events) this.append(event, 0);
  }

  /** Length of the events' text in characters. */
  get length(): number {
    return this.#stored.length + this.#appended.length;
  }

  get charged(): readonly Charged[] {
    return this.#charged;
  }

  /** `untilMs` is the instant from which the event is not kept any more. */
  append(event: PagedEvent, untilMs: number): void {
    const { atMs, charged, identity } = event;
    const isFirst = this.length === 0;
    if (isFirst) {
      this.firstAtMs = atMs;
      this.#cachedHead = undefined;
    }
    const afterMs = atMs - this.firstAtMs;
    const shownIdentity = identity === this.#lastIdentity ? "" : identity;
    const text = textOfEvent(event, afterMs, this.#indexOf(charged), shownIdentity);
    this.#appended += `${isFirst ? "" : ","}${text}`;
    this.#lastIdentity = identity;
    this.expiresAtMs = Math.max(this.expiresAtMs, untilMs);
    this.lastAtMs = Math.max(this.lastAtMs, atMs);
  }

  /** A page as it is stored. Its events are not encoded again, unless earlier code has written them. */
  static fromRow({ slot, expiresAtMs, firstAtMs, lastAtMs, text }: PageRow, content: PageContent): Page {
    const page = new Page(slot, { expiresAtMs, lastAtMs });
    page.#charged = chargedIn(content);
    if (content.events.length === 0) return page;
    page.firstAtMs = firstAtMs;
    const head = page.#head();
    if (!text.startsWith(head)) return new Page(slot, { expiresAtMs, lastAtMs }, readPage(text));
    page.#stored = text.slice(head.length, -"]}".length);
    page.#storedCharged = page.#charged.length;
    page.#lastIdentity = content.events.findLast(([, , , , identity]) => identity !== "")?.[4] ?? "";
    return page;
  }

  toText(): string {
    return `${this.#head()}${this.#stored}${this.#appended}]}`;
  }

  /** The change since the page was last stored. The page then counts it as stored. */
  takeChange(key: string): PageChange {
    const { slot, expiresAtMs, firstAtMs, lastAtMs } = this;
    const [stored, events] = [this.#stored, this.#appended];
    const isAppend = stored !== "" && events !== "" && this.#charged.length === this.#storedCharged;
    this.#stored += events;
    this.#appended = "";
    this.#storedCharged = this.#charged.length;
    const length = this.#head().length + stored.length + "]}".length;
    const appended = isAppend ? { length, events } : undefined;
    return new Change(key, slot, expiresAtMs, firstAtMs, lastAtMs, appended, this);
  }

  /** The text before the events. Cached: it changes when a page begins, or with the first event that is charged otherwise. */
  #head(): string {
    if (this.#cachedHead !== undefined) return this.#cachedHead;
    const charged = this.#charged.map(({ policy, layers, retainMs, windowMs }) => [policy, layers, retainMs, windowMs]);
    this.#cachedHead = `{"v":2,"at":${this.firstAtMs},"charged":${JSON.stringify(charged)},"events":[`;
    return this.#cachedHead;
  }

  #indexOf(charged: Charged): number {
    const index = this.#charged.findIndex((other) => isChargedAlike(other, charged));
    if (index >= 0) return index;
    this.#cachedHead = undefined;
    this.#charged = [...this.#charged, charged];
    return this.#charged.length - 1;
  }
}

/** A page's change. A class: most appends are stored without the whole text, which is made when it is read. */
class Change implements PageChange {
  constructor(
    readonly key: string,
    readonly slot: number,
    readonly expiresAtMs: number,
    readonly firstAtMs: number,
    readonly lastAtMs: number,
    readonly appended: PageChange["appended"],
    private readonly page: Page,
  ) {}

  /** Read it before the page changes again. */
  get text(): string {
    return this.page.toText();
  }
}

function isChargedAlike(a: Charged, b: Charged): boolean {
  const isSame = a.policy === b.policy && a.retainMs === b.retainMs && a.windowMs === b.windowMs;
  return isSame && a.layers.length === b.layers.length && a.layers.every((layer, i) => layer === b.layers[i]);
}

export function contentOf(text: string): PageContent {
  return JSON.parse(text) as PageContent;
}

/** Visits every event of a page, without what only a change of the event needs. Most accounts are opened for counting. */
export function visitEvents(page: PageContent, visit: (event: CountedEvent) => void): void {
  const charged = chargedIn(page);
  let identity = "";
  for (const text of page.events) {
    identity = text[4] || identity;
    visit(eventIn(text, page.at, identity, charged));
  }
}

function chargedIn({ charged }: PageContent): Charged[] {
  // Pages of earlier code have no `windowMs`: an id was known as long as its event was kept.
  return charged.map(([policy, layers, retainMs, windowMs = retainMs]) => ({ policy, layers, retainMs, windowMs }));
}

export function readPage(text: string): PagedEvent[] {
  const page = contentOf(text);
  const charged = chargedIn(page);
  let identity = "";
  return page.events.map((text) => {
    identity = text[4] || identity;
    return { ...eventIn(text, page.at, identity, charged), claims: claimsIn(text[5]) };
  });
}
