import type { PageChange, PageRow } from "../page-store";

/** About how much text a row has at most. A row may have 2 MB. */
const ROW_CHARS = 200_000;

/** What a row says of one page. */
export type Entry = Pick<PageRow, "key" | "slot" | "expiresAtMs" | "firstAtMs" | "lastAtMs"> &
  (
    | { readonly kind: "image"; readonly text: string }
    | { readonly kind: "deletion" }
    /** `events` follow a page whose text has `length` characters. Each has a comma before it. */
    | { readonly kind: "append"; readonly length: number; readonly events: string }
  );

/** An entry in a row's text. A page that was deleted has only its key and its slot. */
type EntryTuple =
  | [key: string, slot: number]
  | [key: string, slot: number, expiresAtMs: number, firstAtMs: number, lastAtMs: number, page: object]
  | [key: string, slot: number, expiresAtMs: number, lastAtMs: number, length: number, events: unknown[]];

/** A row, as it is stored and what it says. */
export interface RowText {
  readonly entries: readonly Entry[];
  readonly text: string;
}

/**
 * The entry of a change: an append if it is one and fits the page as it is stored, an image otherwise. A change without a
 * text is a deletion. `heldLength`: the length of the page's text if the journal holds the page.
 */
export function entryOf(change: PageChange | Pick<PageRow, "key" | "slot">, heldLength: number | undefined): Entry {
  const { key, slot } = change;
  if (!("expiresAtMs" in change)) return { kind: "deletion", key, slot, expiresAtMs: 0, firstAtMs: 0, lastAtMs: 0 };
  const { expiresAtMs, firstAtMs, lastAtMs, appended } = change;
  if (appended && (heldLength === undefined || heldLength === appended.length)) {
    const { length, events } = appended;
    return { kind: "append", key, slot, expiresAtMs, firstAtMs, lastAtMs, length, events };
  }
  return { kind: "image", key, slot, expiresAtMs, firstAtMs, lastAtMs, text: change.text };
}

/** Divides entries into rows that are not too long. Pages and events are JSON already and are not encoded again. */
export function rowTextsOf(entries: readonly Entry[]): RowText[] {
  const rows: { entries: Entry[]; texts: string[]; chars: number }[] = [];
  for (const entry of entries) {
    const text = textOf(entry);
    const last = rows.at(-1);
    if (last && last.chars + text.length < ROW_CHARS) {
      last.entries.push(entry);
      last.texts.push(text);
      last.chars += text.length;
    } else rows.push({ entries: [entry], texts: [text], chars: text.length });
  }
  return rows.map(({ entries, texts }) => ({ entries, text: `[${texts.join()}]` }));
}

function textOf(entry: Entry): string {
  const { kind, key, slot, expiresAtMs, firstAtMs, lastAtMs } = entry;
  const name = `${JSON.stringify(key)},${slot}`;
  if (kind === "deletion") return `[${name}]`;
  if (kind === "image") return `[${name},${expiresAtMs},${firstAtMs},${lastAtMs},${entry.text}]`;
  return `[${name},${expiresAtMs},${lastAtMs},${entry.length},[${entry.events.slice(1)}]]`;
}

export function entriesIn(text: string): Entry[] {
  return (JSON.parse(text) as EntryTuple[]).map((tuple): Entry => {
    const [key, slot] = tuple;
    if (tuple.length === 2) return { kind: "deletion", key, slot, expiresAtMs: 0, firstAtMs: 0, lastAtMs: 0 };
    if (!isAppend(tuple)) {
      const [, , expiresAtMs, firstAtMs, lastAtMs, page] = tuple;
      return { kind: "image", key, slot, expiresAtMs, firstAtMs, lastAtMs, text: JSON.stringify(page) };
    }
    const [, , expiresAtMs, lastAtMs, length, events] = tuple;
    const text = `,${JSON.stringify(events).slice(1, -1)}`;
    return { kind: "append", key, slot, expiresAtMs, firstAtMs: 0, lastAtMs, length, events: text };
  });
}

function isAppend(tuple: EntryTuple): tuple is Extract<EntryTuple, [...unknown[], unknown[]]> {
  return Array.isArray(tuple[5]);
}
