import { type Count, OUTCOMES, type Outcome, type Stats } from "./wire";

/** Decisions per minute by outcome, over equal buckets that end now. */
export interface Series {
  /** The start of each bucket, in seconds since the epoch. */
  readonly startsAtSeconds: readonly number[];
  /** Decisions per minute. */
  readonly rates: Readonly<Record<Outcome, readonly number[]>>;
}

const MINUTE_MS = 60_000;

/** The last `minutes` in buckets of `minutesEach`, for one policy or for all (null). */
export function seriesOf(
  stats: Stats,
  policy: string | null,
  { minutes, minutesEach }: { minutes: number; minutesEach: number },
  nowMs: number,
): Series {
  const bucketMs = minutesEach * MINUTE_MS;
  const buckets = minutes / minutesEach;
  const firstMs = (Math.floor(nowMs / bucketMs) - buckets + 1) * bucketMs;
  const rates = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, new Array<number>(buckets).fill(0)])) as Record<
    Outcome,
    number[]
  >;
  for (const { at, counts } of stats.minutes) {
    const bucket = Math.floor((Date.parse(at) - firstMs) / bucketMs);
    for (const { outcome, count } of decisions(counts, policy)) {
      const rate = rates[outcome]?.[bucket];
      if (rate !== undefined) (rates[outcome] as number[])[bucket] = rate + count / minutesEach;
    }
  }
  return { startsAtSeconds: Array.from({ length: buckets }, (_, i) => (firstMs + i * bucketMs) / 1_000), rates };
}

export type Totals = Readonly<Record<Outcome, number>>;

/** How many decisions of each policy had each outcome, the busiest policy first. */
export function totalsByPolicy(stats: Stats): [policy: string, totals: Totals][] {
  const byPolicy = new Map<string, Record<Outcome, number>>();
  for (const { policy, outcome, count } of stats.minutes.flatMap(({ counts }) => decisions(counts, null))) {
    const totals =
      byPolicy.get(policy) ?? (Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>);
    totals[outcome] = (totals[outcome] ?? 0) + count;
    byPolicy.set(policy, totals);
  }
  return [...byPolicy].sort(([, a], [, b]) => sum(b) - sum(a));
}

export function sum(totals: Totals): number {
  return Object.values(totals).reduce((sum, count) => sum + count, 0);
}

/** The counts of decisions. Counts with a layer count reasons of denials, so they are left out. */
function decisions(counts: readonly Count[], policy: string | null): Count[] {
  return counts.filter((count) => count.layer === null && (policy === null || count.policy === policy));
}
