import { join, resolve } from "node:path";
import { bundle } from "../src/local/bundle";
import { startLocalService } from "../src/local/service";
import { load, median, TOKEN } from "./load";
import { type Extent, showProgress } from "./measure";
import { LIMIT_VARIABLES, WORKLOADS } from "./workloads";

/** More than elsewhere: the difference is smaller than what a round varies by. */
const ROUNDS_EACH = 3;

/** Admitted decisions a second where they are counted, beside the same service without counts: the median of pairs. */
export async function measureCounted({ rounds, seconds }: Extent, dataDirectory: string): Promise<number> {
  const script = await bundle(resolve(import.meta.dirname, "../src/worker.ts"));
  const start = (name: string, durableObjects: object) =>
    startLocalService({
      host: "127.0.0.1",
      port: 0,
      dataDirectory: join(dataDirectory, name),
      script,
      variables: { ...LIMIT_VARIABLES, LIMITER_TOKENS: TOKEN, LIMITER_PLACEMENT: "shards:1" },
      workerOptions: { compatibilityDate: "2026-04-24", durableObjects: { ...OBJECTS, ...durableObjects } },
    });
  const services = [
    await start("counted", { LIMITER_STATS: { className: "StatsObject", useSQLite: true } }),
    await start("uncounted", {}),
  ];
  const { path, bodies } = WORKLOADS.admitted;
  const ratios: number[] = [];
  for (let round = 0; round <= rounds * ROUNDS_EACH; round++) {
    showProgress(`with and without counts, round ${round} of ${rounds * ROUNDS_EACH}`);
    const perSecond: number[] = [];
    for (const { url } of services)
      perSecond.push((await load({ url: url.origin + path, connections: 32, seconds, bodies })).requestsPerSecond);
    // The first warms up.
    if (round > 0) ratios.push((perSecond[0] ?? 0) / (perSecond[1] ?? 0));
  }
  for (const { stop } of services) await stop();
  showProgress("");
  return median(ratios);
}

const OBJECTS = { LIMITER_OBJECTS: { className: "LimiterObject", useSQLite: true } };
