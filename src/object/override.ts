import type { Override } from "../core/override";
import type { KeyOverride } from "./protocol";

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

/** What an override of a key is to one of its counters, if anything. */
export function overrideOf(override: KeyOverride, policy: string, layer: string): Override | undefined {
  const { kind, endsAtMs, layers } = override;
  if (kind !== "limits") return { kind, endsAtMs };
  const own = layers?.find((other) => other.policy === policy && other.layer === layer);
  return own && { kind, endsAtMs, limits: own.limits };
}
