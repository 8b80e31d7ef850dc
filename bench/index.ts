import { parseArgs } from "node:util";
import { benchGrowth } from "./growth";
import { benchThroughput } from "./throughput";

/**
 * `npm run bench`: this service beside its peers and the floors, some five minutes.
 * `npm run bench -- growth`: how it behaves as keys, events and connections grow, some ten.
 * `--rounds N --seconds N` measures for longer, or for a look.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "3" }, seconds: { type: "string", default: "2" } },
});
const extent = { rounds: Number(values.rounds), seconds: Number(values.seconds) };
const runs: Record<string, typeof benchThroughput> = { throughput: benchThroughput, growth: benchGrowth };
const run = runs[positionals[0] ?? "throughput"];
if (!run || !(extent.rounds >= 1) || !(extent.seconds >= 1)) {
  console.error("Usage: npm run bench -- [throughput | growth] [--rounds N] [--seconds N]");
  process.exit(1);
}
await run(extent);
// Whatever a program that was stopped still holds open is not waited for.
process.exit();
