import { LARGEST_MAX, type Limit, longestWindowMs } from "./limit";

/** A layer in shadow counts as a live one does, and tells what it would have denied: it denies nothing. */
export type Mode = "live" | "shadow";

/** A named list of limits, and the subject attributes whose first present one gives its key. */
export interface Layer {
  readonly name: string;
  readonly by: readonly string[];
  /** In the order of declaration; those of one kind differ in their windows. */
  readonly limits: readonly Limit[];
  readonly mode: Mode;
}

/** A named list of layers, all of which must admit. */
export interface Policy {
  readonly name: string;
  readonly layers: readonly Layer[];
}

/** What the headers and `violated-policies` call a limit: `caller/60s`, `caller/60s-concurrent`. Unique within a policy. */
export function limitName(layerName: string, { kind, windowMs }: Limit): string {
  return `${layerName}/${windowMs / 1_000}s${kind ? `-${kind}` : ""}`;
}

export function layersIn(mode: Mode, { layers }: Policy): readonly Layer[] {
  return layers.filter((layer) => layer.mode === mode);
}

/** How long an event charged to these layers can count somewhere, and its id is remembered everywhere. */
export function longestWindowOfMs(layers: readonly Pick<Layer, "limits">[]): number {
  return Math.max(...layers.map(({ limits }) => longestWindowMs(limits)));
}

/** The smallest limit of these layers on costs, or that there may be: they never admit a cost above it. Infinity for none. */
export function smallestMax(layers: readonly Pick<Layer, "limits">[]): number {
  if (layers.length === 0) return Number.POSITIVE_INFINITY;
  const limits = layers.flatMap(({ limits }) => limits.filter(({ kind }) => kind === undefined));
  return Math.min(LARGEST_MAX, ...limits.map(({ max }) => max));
}
