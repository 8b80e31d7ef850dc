export interface Placement {
  /** Objects that share all keys; undefined: an object a key. */
  readonly shards?: number | undefined;
}

/** A reader's own traffic. Shares are from 0 to 1. */
export interface Traffic extends Placement {
  readonly decisionsPerDay: number;
  readonly signedIn: number;
  readonly admitted: number;
  readonly checks: number;
  /** Of the denials, those that an isolate answers by itself. */
  readonly atEdge: number;
  /** Decisions about a key from its first event until it has been idle for so long that it is forgotten. */
  readonly perVisit: number;
  /** The busiest second, as a multiple of the mean. */
  readonly peak: number;
  /** The share of all decisions that one address has. */
  readonly hottest: number;
  /** The share of invocations that are logged: `head_sampling_rate`. */
  readonly logged: number;
}

export const TYPICAL: Traffic = {
  decisionsPerDay: 1_000_000,
  signedIn: 0.5,
  admitted: 0.9,
  checks: 0,
  atEdge: 0,
  perVisit: 10,
  peak: 3,
  hottest: 0.001,
  logged: 1,
};

/** Of the busiest second. */
export const peakPerSecond = ({ decisionsPerDay, peak }: Pick<Traffic, "decisionsPerDay" | "peak">) =>
  (decisionsPerDay / 86_400) * peak;
