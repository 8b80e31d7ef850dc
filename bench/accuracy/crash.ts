import { setTimeout as sleep } from "node:timers/promises";
import type { CrashablePeer } from "./peers/peer";
import { type Replayed, replay } from "./replay";
import { CRASH_LIMITS, makeCrashTrace } from "./traces";

/** By then most users have used more than half of their limit. */
const CRASH_AFTER_MS = 2_500;

export interface CrashRun extends Replayed {
  readonly killedPart: string;
  readonly admittedBefore: number;
}

/**
 * Replays one trace for all peers, and kills and restarts them in the middle. The trace stays within one minute of the
 * clock, so that no window aligned to the clock ends.
 */
export async function replayWithCrash(seed: number, peers: readonly CrashablePeer[]): Promise<CrashRun[]> {
  const trace = makeCrashTrace(seed);
  const windowMs = CRASH_LIMITS[0]?.windowMs ?? 0;
  const lastsMs = (trace.requests.at(-1)?.atMs ?? 0) + 5_000;
  const inThisMinute = Date.now() + 200;
  const fits = (inThisMinute % windowMs) + lastsMs < windowMs;
  const startMs = fits ? inThisMinute : Math.ceil(inThisMinute / windowMs) * windowMs;

  const replayed = replay(trace, peers, startMs);
  await sleep(startMs + CRASH_AFTER_MS - Date.now());
  const killedMs = Date.now();
  await Promise.all(peers.map((peer) => peer.killAndRestart()));
  return (await replayed).map((each, i) => ({
    ...each,
    killedPart: (peers[i] as CrashablePeer).killedPart,
    admittedBefore: each.observed.filter(({ outcome, receivedMs }) => outcome === "allowed" && receivedMs <= killedMs)
      .length,
  }));
}
