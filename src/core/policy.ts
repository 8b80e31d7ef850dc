import { type Limit, longestWindowMs } from "./limit";

/** A layer in shadow counts as a live one does, and tells what it would have denied: it denies nothing. */
export type Mode = "live" | "shadow";

/** A named list of limits, and the subject attributes whose first present one gives its key. */
export interface Layer {
  readonly name: string;
  readonly by: readonly string[];
  /** In the order of declaration; their windows differ. */
  readonly limits: readonly Limit[];
  readonly mode: Mode;
}

/** A named list of layers, all of which must admit. */
export interface Policy {
  readonly name: string;
  readonly layers: readonly Layer[];
}

/** What the headers and `violated-policies` call a limit: `caller/60s`. Unique within a policy. */
export function limitName(layerName: string, limit: Limit): string {
  return `${layerName}/${limit.windowMs / 1_000}s`;
}

export function layersIn(mode: Mode, { layers }: Policy): readonly Layer[] {
  return layers.filter((layer) => layer.mode === mode);
}

/** How long an event charged to these layers can count somewhere, and its id is remembered everywhere. */
export function longestWindowOfMs(layers: readonly Pick<Layer, "limits">[]): number {
  return Math.max(...layers.map(({ limits }) => longestWindowMs(limits)));
}

/** The smallest limit of these layers, which never admit a cost above it: without any, there is none. */
export function smallestMax(layers: readonly Pick<Layer, "limits">[]): number {
  return Math.min(...layers.flatMap(({ limits }) => limits.map(({ max }) => max)));
}
