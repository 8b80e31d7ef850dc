import { type Resources, resourcesOf } from "../../tools/resources";
import { startLimiter } from "../contestants";
import { load, median } from "../load";
import { type Extent, showProgress } from "../measure";
import { LIMIT_VARIABLES, WORKLOADS } from "../workloads";

export interface AtConnections extends Resources {
  readonly connections: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const COUNTS = [1, 2, 8, 32, 128, 512];

/** Measures admitted decisions by the number of connections. Each connection has one request in flight. */
export async function growConnections(dataDirectory: string, { rounds, seconds }: Extent): Promise<AtConnections[]> {
  const service = await startLimiter(dataDirectory, LIMIT_VARIABLES);
  const { path, bodies } = WORKLOADS.admitted;
  const samples = COUNTS.map((connections) => ({
    connections,
    results: [] as Awaited<ReturnType<typeof load>>[],
    resources: [] as Resources[],
  }));
  for (let round = 0; round <= rounds; round++)
    for (const { connections, results, resources } of samples) {
      showProgress(`${connections} connections: round ${round} of ${rounds}`);
      const loading = load({ url: service.url + path, connections, seconds, bodies });
      // Sampled under load, when all connections are open.
      setTimeout(() => resources.push(resourcesOf(service)), (seconds * 1_000) / 2);
      const result = await loading;
      // The first round warms up.
      if (round > 0) results.push(result);
    }
  await service.stop();
  showProgress("");
  return samples.map(({ connections, results, resources }) => ({
    connections,
    perSecond: median(results.map((each) => each.requestsPerSecond)),
    p50Ms: median(results.map((each) => each.p50Ms)),
    p99Ms: median(results.map((each) => each.p99Ms)),
    residentBytes: Math.max(...resources.map((each) => each.residentBytes)),
    openFiles: Math.max(...resources.map((each) => each.openFiles)),
  }));
}
