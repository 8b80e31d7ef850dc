import type { Latencies } from "./latencies";
import type { SumsId } from "./senders";
import type { SignIns } from "./sign-ins";
import type { Estimate } from "./space-saving";
import type { Tallies } from "./tally";

/**
 * Messages between isolates and the stats objects. As with the objects that decide, old and new code must both be able
 * to read them: add optional fields, never rename or retype a field.
 */

/** The counts of an isolate since it last sent them. */
export interface Sums {
  /** Sums without an id are counted each time that they arrive. */
  readonly id?: SumsId;
  readonly tallies: Tallies;
  readonly latencies: Latencies;
  /** An item has the policy, the layer and the key of a denial, each on its own line. None of them has a line break. */
  readonly deniedKeys: readonly Estimate[];
  readonly signIns?: SignIns;
}

export interface Totals {
  /** When counting began. */
  readonly sinceMs: number;
  readonly tallies: Tallies;
  readonly latencies: Latencies;
  readonly signIns?: SignIns;
}

export interface Recent {
  /** The minutes that have counts, by when they began, oldest first. */
  readonly minutes: readonly { readonly atMs: number; readonly tallies: Tallies }[];
  /** The keys denied most often in the last day, most often first. */
  readonly deniedKeys: readonly Estimate[];
  /** A key that is left out was denied at most this often. */
  readonly errorAtMost: number;
  /** Of all these minutes together. */
  readonly signIns?: SignIns;
}
