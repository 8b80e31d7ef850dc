import { type Latencies, noLatencies } from "./latencies";
import type { Sums } from "./protocol";
import { areNone, noSignIns, type SignIns } from "./sign-ins";
import { SpaceSaving } from "./space-saving";
import { MOST_DENIED_KEYS, type Tallies } from "./tally";

/** What an isolate has counted since it last sent its sums. Bounded, since policies, outcomes and names of tokens are. */
export class RunningSums {
  readonly tallies: Tallies = new Map();
  readonly latencies: Latencies = noLatencies();
  readonly deniedKeys = new SpaceSaving(MOST_DENIED_KEYS);
  readonly signIns: SignIns = noSignIns();

  get isEmpty(): boolean {
    const { tallies, signIns, latencies } = this;
    return tallies.size === 0 && areNone(signIns) && latencies.counts.every((count) => count === 0);
  }

  toSums(): Sums {
    const { tallies, latencies, deniedKeys, signIns } = this;
    return { tallies, latencies, deniedKeys: deniedKeys.estimates(), ...(!areNone(signIns) && { signIns }) };
  }
}
