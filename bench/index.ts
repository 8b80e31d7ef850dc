import { parseArgs } from "node:util";
import { benchGrowth } from "./growth";
import { benchInProcess } from "./in-process";
import type { Extent } from "./measure";
import { benchProfile } from "./profile";
import { benchThroughput } from "./throughput";
import type { WorkloadName } from "./workloads";

/**
 * `npm run bench` measures this service beside its peers, in about 15 minutes: over HTTP, with the floors, and in the process
 * of a backend. `--only http` or `--only in-process` measures one of the two.
 * `npm run bench -- growth` measures with growing keys, logs and connections, in about 10 minutes.
 * `npm run bench -- profile [WORKLOAD]` shows where the time goes, by itself that of a session.
 * `--rounds N --seconds N` makes a run longer or shorter.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
  },
});
const extent = { rounds: Number(values.rounds), seconds: Number(values.seconds) };
const comparisons: Record<string, typeof benchThroughput> = { http: benchThroughput, "in-process": benchInProcess };
const compare = async (extent: Extent) => {
  for (const [name, run] of Object.entries(comparisons)) if (name === (values.only ?? name)) await run(extent);
};
const runs: Record<string, typeof benchThroughput> = {
  throughput: compare,
  growth: benchGrowth,
  profile: (extent) => benchProfile(extent, positionals[1] as WorkloadName | "session" | undefined),
};
const run = runs[positionals[0] ?? "throughput"];
const isKnown = values.only === undefined || values.only in comparisons;
if (!run || !isKnown || !(extent.rounds >= 1) || !(extent.seconds >= 1)) {
  console.error(
    "Usage: npm run bench -- [throughput [--only http | in-process] | growth | profile [WORKLOAD]] [--rounds N] [--seconds N]",
  );
  process.exit(1);
}
await run(extent);
// Do not wait for handles that stopped programs still hold.
process.exit();
