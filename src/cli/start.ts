import type { Command } from "commander";
import { reportFailure, serve } from "../local/serve";
import { shippedParts } from "../local/shipped";

export function addStart(program: Command): void {
  program
    .command("start")
    .description("serves on this machine, with counters on disk")
    .option("--test-clock", "for tests: the clock stands still until it is moved, and nothing is kept", false)
    .addHelpText(
      "after",
      `
Needs the runtime beside exact-limiter: the package miniflare. Reads its variables from the environment, else from
.dev.vars in the current directory. Keeps counters in .data, or in LIMITER_DATA_DIR; listens on HOST and PORT, by default
127.0.0.1 and 8787. Without tokens it makes them, and keeps them in .dev.vars.`,
    )
    .action(({ testClock }: { readonly testClock: boolean }) =>
      serve(shippedParts(testClock), { folder: process.cwd(), hasTestClock: testClock }).catch(reportFailure),
    );
}
