/**
 * What became of a decision, each of which is counted once.
 *
 * - `denied_at_edge`: denied, as an object had said before, without asking it again.
 * - `shadow_denied`: admitted, and layers that are only tried out would have denied it.
 * - `degraded`: admitted because no object could be reached; `error`: not decided for that or for another fault.
 */
export const OUTCOMES = [
  "allowed",
  "denied",
  "denied_at_edge",
  "shadow_denied",
  "degraded",
  "replayed",
  "error",
] as const;
export type DecisionOutcome = (typeof OUTCOMES)[number];

/** Those of them that a layer is a reason of. */
export const LAYER_OUTCOMES = ["denied", "denied_at_edge", "shadow_denied"] as const satisfies DecisionOutcome[];

export type Tally = { [O in DecisionOutcome]?: number };

/** Of policies, `chat`, how many decisions; of layers, `chat/caller`, how often they were a reason. */
export type Tallies = Map<string, Tally>;

export function countIn(tallies: Tallies, name: string, outcome: DecisionOutcome, count = 1): void {
  const known = tallies.get(name);
  if (known) known[outcome] = (known[outcome] ?? 0) + count;
  else tallies.set(name, { [outcome]: count });
}

export function addTallies(sum: Tallies, more: Tallies): void {
  for (const [name, tally] of more)
    for (const outcome of OUTCOMES) if (tally[outcome]) countIn(sum, name, outcome, tally[outcome]);
}

/** The upper bounds of the histogram's buckets; a last one takes whatever took longer. */
export const LATENCY_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000] as const;

/** How many calls took how long: by bucket, each without those before it. */
export interface Latencies {
  readonly counts: number[];
  sumMs: number;
}

export function noLatencies(): Latencies {
  return { counts: Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0), sumMs: 0 };
}

export function observe(latencies: Latencies, ms: number): void {
  const { counts } = latencies;
  let bucket = 0;
  while (bucket < LATENCY_BOUNDS_MS.length && ms > (LATENCY_BOUNDS_MS[bucket] as number)) bucket++;
  counts[bucket] = (counts[bucket] as number) + 1;
  latencies.sumMs += ms;
}

export function addLatencies(sum: Latencies, more: Latencies): void {
  more.counts.forEach((count, bucket) => {
    sum.counts[bucket] = (sum.counts[bucket] ?? 0) + count;
  });
  sum.sumMs += more.sumMs;
}

/** Denied keys that are remembered at most: by an isolate for a few seconds, in storage for an hour, told for a day. */
export const MOST_DENIED_KEYS = 256;
