import { type Limit, longestWindowMs } from "../core/limit";
import type { KeyOverride } from "../core/override";

/** The content of an override's text. docs/storage.md is its contract. */
interface StoredOverride extends Omit<KeyOverride, "endsAtMs"> {
  readonly v: 1;
}

export function overrideText({ kind, reason, layers, order }: KeyOverride): string {
  const text: StoredOverride = { v: 1, kind, reason, ...(layers && { layers }), ...(order && { order }) };
  return JSON.stringify(text);
}

export function overrideFromText(text: string, endsAtMs: number): KeyOverride {
  const { kind, reason, layers, order } = JSON.parse(text) as StoredOverride;
  return { kind, reason, endsAtMs, ...(layers && { layers }), ...(order && { order }) };
}

/**
 * The instant from which an override in force spares events of a layer, whatever their retention: the events that were kept
 * when it was set, as far back as its windows reach.
 */
export function sparedFromMs(keptFromMs: number, limits: readonly Limit[], nowMs: number): number {
  return Math.max(keptFromMs, nowMs - longestWindowMs(limits) + 1);
}

/** How long an override spares a page whose last event is of `lastAtMs`, if it is in force that long. 0 for not at all. */
export function sparedUntilMs({ layers = [] }: KeyOverride, lastAtMs: number): number {
  const windows = layers.flatMap(({ keptFromMs, limits }) =>
    keptFromMs !== undefined && keptFromMs <= lastAtMs ? longestWindowMs(limits) : [],
  );
  return windows.length > 0 ? lastAtMs + Math.max(...windows) : 0;
}
