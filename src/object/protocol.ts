import type { Verdict } from "../core/decide";
import type { Limit } from "../core/limit";

/**
 * What the edge and the objects say to each other. During a deploy old and new code talk for minutes, so a change
 * here must be readable by both: add optional fields, never rename or retype one.
 *
 * The limits travel with every question: an object has no configuration of its own that could disagree.
 */
export interface Question {
  readonly policy: string;
  readonly cost: number;
  readonly counters: readonly AskedCounter[];
}

/** One layer of the policy, with the key it counts by for the subject at hand. */
export interface AskedCounter {
  readonly layer: string;
  readonly key: string;
  readonly limits: readonly Limit[];
}

/** A question whose cost is to be recorded, as the event `id`, if all counters admit it. */
export interface Charge extends Question {
  readonly id: string;
}

export interface Answer extends Verdict {
  /** The object's own time of the decision. */
  readonly atMs: number;
}

export interface StoredEvent {
  readonly id: string;
  readonly atMs: number;
  readonly cost: number;
}

export interface Inspected {
  readonly standings: Verdict["standings"][number];
  /** How many events count in the longest window. */
  readonly total: number;
  /** The newest of them, newest first. */
  readonly events: readonly StoredEvent[];
}
