import { readTraffic, USAGE, UsageError } from "./scale/options";
import { documented, ownTables } from "./scale/tables";

/**
 * `npm run scale` prints the tables of docs/scale.md; with any option, the bill of that traffic. What is estimated is in
 * `scale/assumptions.ts`, the prices, to be changed when they do, in `scale/prices.ts`.
 */
const args = process.argv.slice(2);
try {
  if (args.includes("--help")) console.log(USAGE);
  else {
    const traffic = readTraffic(args);
    console.log((traffic ? ownTables(traffic) : documented()).join("\n\n"));
  }
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n${USAGE}`);
  process.exitCode = 1;
}
