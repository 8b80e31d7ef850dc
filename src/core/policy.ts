import { type Limit, longestWindowMs } from "./limit";

/** A named list of limits, and the subject attributes whose first present one gives its key. */
export interface Layer {
  readonly name: string;
  readonly by: readonly string[];
  /** In the order of declaration; their windows differ. */
  readonly limits: readonly Limit[];
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

/** How long an event of a policy can count somewhere, and its id is remembered everywhere. */
export function longestWindowOfMs(policy: Policy): number {
  return Math.max(...policy.layers.map(({ limits }) => longestWindowMs(limits)));
}

/** The smallest limit of a policy: a cost above it can never be admitted. */
export function smallestMax(policy: Policy): number {
  return Math.min(...policy.layers.flatMap((layer) => layer.limits.map((limit) => limit.max)));
}
