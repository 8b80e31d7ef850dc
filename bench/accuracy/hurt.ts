import { setTimeout as sleep } from "node:timers/promises";
import type { Victim } from "./peers/peer";
import { type Replayed, replay } from "./replay";
import { HURT_LIMITS, makeHurtTrace } from "./traces";

/** Then most users have used a good half of what is theirs. */
const KILLED_AFTER_MS = 2_500;

export interface Hurt extends Replayed {
  readonly killed: string;
  readonly admittedBefore: number;
}

/** One trace for all, within one minute of the clock; in the middle of it each is killed, and started again at once. */
export async function hurtAll(seed: number, victims: readonly Victim[]): Promise<Hurt[]> {
  const trace = makeHurtTrace(seed);
  const windowMs = HURT_LIMITS[0]?.windowMs ?? 0;
  const lastsMs = (trace.requests.at(-1)?.atMs ?? 0) + 5_000;
  const inThisMinute = Date.now() + 200;
  const fits = (inThisMinute % windowMs) + lastsMs < windowMs;
  const startMs = fits ? inThisMinute : Math.ceil(inThisMinute / windowMs) * windowMs;

  const replayed = replay(trace, victims, startMs);
  await sleep(startMs + KILLED_AFTER_MS - Date.now());
  const killedMs = Date.now();
  await Promise.all(victims.map((victim) => victim.hurt()));
  return (await replayed).map((each, i) => ({
    ...each,
    killed: (victims[i] as Victim).killed,
    admittedBefore: each.observed.filter(({ outcome, receivedMs }) => outcome === "allowed" && receivedMs <= killedMs)
      .length,
  }));
}
