import type { Latencies } from "./latencies";
import type { Estimate } from "./space-saving";
import type { Tallies } from "./tally";

/**
 * What the edge and the object that adds up say to each other. As with the objects that decide, a change here must be
 * readable by old and new code: add optional fields, never rename or retype one.
 */

/** What an isolate has counted since it last said so. */
export interface Sums {
  readonly tallies: Tallies;
  readonly latencies: Latencies;
  /** Of denials, the policy, the layer and the key, each on its line: none of them has a line break. */
  readonly deniedKeys: readonly Estimate[];
}

export interface Totals {
  /** When the first of it was counted. */
  readonly sinceMs: number;
  readonly tallies: Tallies;
  readonly latencies: Latencies;
}

export interface Recent {
  /** Minutes in which something was counted, by their beginning, the oldest first. */
  readonly minutes: readonly { readonly atMs: number; readonly tallies: Tallies }[];
  /** Those denied most often within the last day, most first. */
  readonly deniedKeys: readonly Estimate[];
  readonly errorAtMost: number;
}
