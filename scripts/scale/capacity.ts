import { peakPerSecond, type Traffic } from "./traffic";
import { usageOf } from "./usage";

/** Calls that a decision about one address makes to the object of that address. */
export function callsAtAddress({ signedIn, admitted, checks, atEdge }: Traffic): number {
  const denied = (1 - admitted) * (1 - atEdge);
  // A signed-in one that its user denies is reserved at the address, and put back.
  return checks + (1 - checks) * (admitted + denied * (1 + signedIn));
}

/** How many decisions a day it takes until the hottest address has so many calls in the busiest second. */
export function decisionsPerDayUntilFull(traffic: Traffic, callsPerSecond: number): number {
  return (callsPerSecond * 86_400) / (traffic.peak * traffic.hottest * callsAtAddress(traffic));
}

/** How many objects must share all keys so that none has more calls than so many in the busiest second. */
export function shardsNeeded(traffic: Traffic, callsPerSecond: number): number {
  const callsOver = (shards: number) => peakPerSecond(traffic) * usageOf({ ...traffic, shards }).calls;
  let shards = 1;
  // The more shards, the more decisions need two of them: at most twice as many calls as over one.
  while (callsOver(shards) > shards * callsPerSecond)
    shards = Math.max(shards + 1, Math.ceil(callsOver(shards) / callsPerSecond));
  return shards;
}
