import type { ReportedWait } from "../judge";
import type { Limit, TraceName, TraceRequest } from "../traces";

export interface PeerDecision {
  readonly allowed: boolean;
  readonly reportedWait?: ReportedWait | undefined;
}

/** A limiter, called as its documentation recommends. */
export interface Peer {
  readonly name: string;
  /** The limits that it can hold. It is judged by these alone. */
  readonly limits: readonly Limit[];
  /** What it can't do, in a few words. */
  readonly shortcomings: string;
  readonly skippedTraces?: readonly TraceName[];
  /** How many windows a decision looks back: 2 for an estimate from this window and the one before. */
  readonly windowsSeen: 1 | 2;
  /** Throws if there is no decision. */
  decide(request: TraceRequest): Promise<PeerDecision>;
  /** Stops whatever does not end with this process. */
  stop?(): Promise<unknown>;
}

/** A peer that can be killed without warning, and restarted at once. */
export interface CrashablePeer extends Peer {
  /** Names what is killed. */
  readonly killedPart: string;
  killAndRestart(): Promise<void>;
}

/** The longest of several waits. */
export function longestOf(reportedWait: readonly ReportedWait[]): ReportedWait | undefined {
  return reportedWait.reduce<ReportedWait | undefined>(
    (longest, each) => (longest && longest.ms >= each.ms ? longest : each),
    undefined,
  );
}
