import { parseArgs } from "node:util";
import { benchGrowth } from "./growth";
import { benchProfile } from "./profile";
import { benchThroughput } from "./throughput";
import type { WorkloadName } from "./workloads";

/**
 * `npm run bench`: this service beside its peers and the floors, some five minutes.
 * `npm run bench -- growth`: how it behaves as keys, events and connections grow, some ten.
 * `npm run bench -- profile [WORKLOAD]`: where its time goes.
 * `--rounds N --seconds N` measures for longer, or for a look.
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
// Whatever a program that was stopped still holds open is not waited for.
process.exit();
