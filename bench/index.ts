import { parseArgs } from "node:util";
import { benchGrowth } from "./growth";
import { benchProfile } from "./profile";
import { benchThroughput } from "./throughput";
import type { WorkloadName } from "./workloads";

/**
 * `npm run bench` measures this service, its peers and the floors side by side, in about 5 minutes.
 * `npm run bench -- growth` measures with growing keys, logs and connections, in about 10 minutes.
 * `npm run bench -- profile [WORKLOAD]` shows where the time goes.
 * `--rounds N --seconds N` makes a run longer or shorter.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "3" }, seconds: { type: "string", default: "2" } },
});
const extent = { rounds: Number(values.rounds), seconds: Number(values.seconds) };
const runs: Record<string, typeof benchThroughput> = {
  throughput: benchThroughput,
  growth: benchGrowth,
  profile: (extent) => benchProfile(extent, positionals[1] as WorkloadName | undefined),
};
const run = runs[positionals[0] ?? "throughput"];
if (!run || !(extent.rounds >= 1) || !(extent.seconds >= 1)) {
  console.error("Usage: npm run bench -- [throughput | growth | profile [WORKLOAD]] [--rounds N] [--seconds N]");
  process.exit(1);
}
await run(extent);
// Do not wait for handles that stopped programs still hold.
process.exit();
