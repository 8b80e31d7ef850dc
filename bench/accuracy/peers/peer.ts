import type { Told } from "../judge";
import type { Limit, TraceName, TraceRequest } from "../traces";

export interface Answer {
  readonly allowed: boolean;
  readonly told?: Told | undefined;
}

/** Something that decides, called as its documentation recommends. */
export interface Peer {
  readonly name: string;
  /** What it can be told to hold; it is judged by these alone. */
  readonly limits: readonly Limit[];
  /** What it can't do of all this, in a few words. */
  readonly cannot: string;
  readonly leavesOut?: readonly TraceName[];
  /** An estimate made of this window and the one before sees two of them. */
  readonly windowsSeen: 1 | 2;
  /** Throws when it does not know. */
  decide(request: TraceRequest): Promise<Answer>;
  /** Ends what does not end with this process by itself. */
  stop?(): Promise<unknown>;
}

/** A peer whose state can be hurt: killed without warning, and started again at once. */
export interface Victim extends Peer {
  /** What is killed. */
  readonly killed: string;
  hurt(): Promise<void>;
}

export function keyOf({ layer }: Limit, { user, ip }: TraceRequest): string {
  return layer === "caller" ? user : ip;
}

/** A wait that is the longest of several. */
export function longestOf(told: readonly Told[]): Told | undefined {
  return told.reduce<Told | undefined>(
    (longest, each) => (longest && longest.ms >= each.ms ? longest : each),
    undefined,
  );
}
