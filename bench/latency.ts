import type { Contestant } from "./contestants";
import { load, median } from "./load";
import { type Extent, showProgress } from "./measure";
import { WORKLOADS } from "./workloads";

export interface LatencyAtLoad {
  readonly name: string;
  readonly offeredPerSecond: number;
  readonly answeredPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Enough connections for the offered load. A request that finds none free waits, and its latency includes the wait. */
const CONNECTIONS = 64;

/** Measures latencies of admitted decisions, sent to each contestant in turn at the same even rate: medians of the rounds. */
export async function measureLatencies(
  contestants: readonly Contestant[],
  perSecond: number,
  { rounds, seconds }: Extent,
): Promise<LatencyAtLoad[]> {
  const { path, bodies } = WORKLOADS.admitted;
  const samples = contestants.map(() => [] as Awaited<ReturnType<typeof load>>[]);
  for (let round = 1; round <= rounds; round++)
    for (const [i, { name, url }] of contestants.entries()) {
      showProgress(`latency at ${Math.round(perSecond)}/s, round ${round} of ${rounds}: ${name}`);
      samples[i]?.push(await load({ url: url + path, connections: CONNECTIONS, seconds, bodies, perSecond }));
    }
  showProgress("");
  return contestants.map(({ name }, i) => {
    const of = (pick: "requestsPerSecond" | "p50Ms" | "p99Ms") => median((samples[i] ?? []).map((each) => each[pick]));
    const answered = of("requestsPerSecond");
    return { name, offeredPerSecond: perSecond, answeredPerSecond: answered, p50Ms: of("p50Ms"), p99Ms: of("p99Ms") };
  });
}
