/** A stored page: a run of one key's events. */
export interface PageRow {
  readonly key: string;
  /** Numbers the pages of a key. The slot of an expired page is used again. */
  readonly slot: number;
  /** The instant from which none of the page's events is kept, unless an override spares the page. */
  readonly expiresAtMs: number;
  /** When the first and the last event were admitted: the order of a key's pages. */
  readonly firstAtMs: number;
  readonly lastAtMs: number;
  /** docs/storage.md says what it holds. */
  readonly text: string;
}

/** A page that changed since it was stored. Its text may be made when it is read, so a spread does not copy it. */
export interface PageChange extends PageRow {
  /**
   * The only change, if nothing else changed: events that follow a text of `length` characters, each with a comma before
   * it.
   */
  readonly appended?: { readonly length: number; readonly events: string } | undefined;
}

/** What ledgers and accounts need of a store. Each write stores all of it or, if it throws, nothing. */
export interface PageStore {
  readonly overrides: OverrideStore;
  /** The pages of a key in their order, one at a time: a key with a million events has more text than memory holds. */
  pages(key: string): Iterable<PageRow>;
  /** The same for several keys, in few reads. Leaves out keys that are better read by themselves. */
  pagesOf(keys: readonly string[]): Iterable<[key: string, pages: Iterable<PageRow>]>;
  /** The text of one page, undefined if there is none. */
  loadPage(key: string, slot: number): string | undefined;
  /** Stores pages, each in place of the page with its key and slot. */
  put(changes: readonly PageChange[]): void;
  deleteKey(key: string): void;
  deletePage(key: string, slot: number): void;
  /** Up to `count` checkpointed pages after (`key`, `slot`), in the order of the table, without an event after `byMs`. */
  pagesAfter(key: string, slot: number, count: number, byMs: number): Omit<PageRow, "text" | "firstAtMs">[];
  /** The newest turn in the journal. */
  readonly newestTurn: number;
  /** Checkpoints the journal's oldest row. False if there is none, or it is newer than `turn`. */
  checkpoint(turn: number): boolean;
}

/** The stored override of a key. docs/storage.md says what the text holds. */
export interface OverrideRow {
  readonly endsAtMs: number;
  readonly text: string;
}

export interface OverrideStore {
  /** The override of a key, even if it has ended. */
  load(key: string): OverrideRow | undefined;
  /** Stores a key's override, in place of its present override. */
  put(key: string, row: OverrideRow): void;
  delete(key: string): void;
  /** Deletes the overrides that have ended. Returns their keys, and when the next one ends: undefined if none is left. */
  deleteEnded(nowMs: number): { keys: string[]; nextEndMs: number | undefined };
}
