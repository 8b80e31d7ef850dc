import type { Arena } from "./contestants";
import { load, median } from "./load";
import { WORKLOADS, type Workload, type WorkloadName } from "./workloads";

export interface Extent {
  readonly rounds: number;
  readonly seconds: number;
}

/** The medians of one contestant or floor under one workload. */
export interface Measurement {
  /** The name of the contestant or the floor. */
  readonly name: string;
  readonly workload: WorkloadName;
  readonly decisionsPerSecond: number;
  readonly p99Ms: number;
}

const CONNECTIONS = 32;

/**
 * Measures every workload with each contestant that supports it, one right after the other in several rounds, so that
 * disturbances of the machine fall on all of them. A round before warms up.
 */
export async function measureAll(
  { contestants, floors, clear }: Arena,
  { rounds, seconds }: Extent,
): Promise<Measurement[]> {
  const turns = (Object.keys(WORKLOADS) as WorkloadName[]).flatMap((workload) =>
    contestants
      .filter(({ workloads }) => workloads.includes(workload))
      .map(({ name, url }) => ({ name, workload, url: url + WORKLOADS[workload].path })),
  );
  for (const { name, url } of floors) turns.push({ name, workload: "admitted", url });

  const samples = turns.map(() => ({ perSecond: [] as number[], p99Ms: [] as number[] }));
  for (let round = 0; round <= rounds; round++) {
    await clear();
    for (const [i, { name, workload, url }] of turns.entries()) {
      const which = round === 0 ? "warming up" : `round ${round} of ${rounds}`;
      showProgress(`${which}, ${i + 1} of ${turns.length}: ${workload}, ${name}`);
      const { perSecond, p99Ms } = await measure(url, WORKLOADS[workload], round === 0 ? 1 : seconds);
      if (round === 0) continue;
      samples[i]?.perSecond.push(perSecond);
      samples[i]?.p99Ms.push(p99Ms);
    }
  }
  showProgress("");
  return turns.map(({ name, workload }, i) => ({
    name,
    workload,
    decisionsPerSecond: median(samples[i]?.perSecond ?? []),
    p99Ms: median(samples[i]?.p99Ms ?? []),
  }));
}

async function measure(url: string, workload: Workload, seconds: number) {
  const { bodies, statuses, decisionsPerRequest } = workload;
  const result = await load({ url, connections: CONNECTIONS, seconds, bodies });
  const isFloor = !url.includes("/v1/");
  for (const [status, count] of Object.entries(result.byStatus))
    if (!isFloor && !statuses.includes(status)) throw new Error(`${url} answered ${count} times with ${status}`);
  return { perSecond: result.requestsPerSecond * decisionsPerRequest, p99Ms: result.p99Ms };
}

/** Prints a line on the terminal that the next one overwrites. */
export function showProgress(line: string): void {
  process.stderr.write(`\r${line.padEnd(90)}${line === "" ? "\r" : ""}`);
}
