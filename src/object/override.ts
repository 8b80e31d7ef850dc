import type { KeyOverride } from "../core/override";

/** What an override's text holds: docs/storage.md is its contract. */
interface OverrideText extends Omit<KeyOverride, "endsAtMs"> {
  readonly v: 1;
}

export function overrideText({ kind, reason, layers }: KeyOverride): string {
  const text: OverrideText = { v: 1, kind, reason, ...(layers && { layers }) };
  return JSON.stringify(text);
}

export function readOverride(text: string, endsAtMs: number): KeyOverride {
  const { kind, reason, layers } = JSON.parse(text) as OverrideText;
  return { kind, reason, endsAtMs, ...(layers && { layers }) };
}
