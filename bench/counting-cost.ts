import { join, resolve } from "node:path";
import { bundle } from "../src/local/bundle";
import { load, median, TOKEN } from "./load";
import { type Extent, showProgress } from "./measure";
import { LIMITER_OBJECTS, startWorker } from "./worker";
import { LIMIT_VARIABLES, WORKLOADS } from "./workloads";

/** Three times as many rounds as elsewhere, since the difference is smaller than the variation between rounds. */
const ROUNDS_EACH = 3;

/** The median ratio of admitted decisions a second with counting to those without. */
export async function measureCountingCost({ rounds, seconds }: Extent, dataDirectory: string): Promise<number> {
  const script = await bundle(resolve(import.meta.dirname, "../src/worker.ts"));
  const start = (name: string, objects: Readonly<Record<string, string>>) =>
    startWorker({
      dataDirectory: join(dataDirectory, name),
      script,
      variables: { ...LIMIT_VARIABLES, LIMITER_TOKENS: TOKEN, LIMITER_PLACEMENT: "shards:1" },
      objects: { ...LIMITER_OBJECTS, ...objects },
    });
  const services = [await start("counted", { LIMITER_STATS: "StatsObject" }), await start("uncounted", {})];
  const { path, bodies } = WORKLOADS.admitted;
  const ratios: number[] = [];
  for (let round = 0; round <= rounds * ROUNDS_EACH; round++) {
    showProgress(`with and without counts, round ${round} of ${rounds * ROUNDS_EACH}`);
    const perSecond: number[] = [];
    for (const { url } of services)
      perSecond.push((await load({ url: url.origin + path, connections: 32, seconds, bodies })).requestsPerSecond);
    // The first round warms up.
    if (round > 0) ratios.push((perSecond[0] ?? 0) / (perSecond[1] ?? 0));
  }
  for (const { stop } of services) await stop();
  showProgress("");
  return median(ratios);
}
