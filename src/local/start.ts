import { parseArgs } from "node:util";
import { CHECKOUT, partsOfCheckout } from "./checkout";
import { StartFailure } from "./failure";
import { reportFailure, serve } from "./serve";

/**
 * `npm start`: the service of the checkout, on this machine.
 * `npm start -- --test-clock`: the service for tests, with a clock that tests move.
 */
async function main(): Promise<void> {
  const hasTestClock = readArguments();
  await serve(await partsOfCheckout(hasTestClock), { folder: CHECKOUT, hasTestClock });
}

/** Whether the arguments ask for a test clock. */
function readArguments(): boolean {
  try {
    return parseArgs({ options: { "test-clock": { type: "boolean", default: false } } }).values["test-clock"];
  } catch {
    const given = process.argv.slice(2).join(" ");
    throw new StartFailure(`Unknown arguments: ${given}. The only option is --test-clock: npm start -- --test-clock`);
  }
}

main().catch(reportFailure);
