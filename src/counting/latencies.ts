/** The upper bounds of the histogram's buckets. A last bucket has no bound. */
export const LATENCY_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000] as const;

/** A histogram of durations. A bucket does not include those before it. */
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
