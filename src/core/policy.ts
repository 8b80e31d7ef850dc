import { LARGEST_MAX, type Limit, longestWindowMs } from "./limit";

/** A named list of limits, and the subject attributes whose first present one gives its key. */
export interface Layer {
  readonly name: string;
  readonly by: readonly string[];
  /** In the order of declaration; those of one kind differ in their windows. */
  readonly limits: readonly Limit[];
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

/** How long an event of a policy can count somewhere, and its id is remembered everywhere. */
export function longestWindowOfMs(policy: Policy): number {
  return Math.max(...policy.layers.map(({ limits }) => longestWindowMs(limits)));
}

/** The smallest limit of a policy on costs, of those that there may be: a cost above it can never be admitted. */
export function smallestMax(policy: Policy): number {
  const limits = policy.layers.flatMap(({ limits }) => limits.filter(({ kind }) => kind === undefined));
  return Math.min(LARGEST_MAX, ...limits.map(({ max }) => max));
}
