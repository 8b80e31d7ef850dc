import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { StartFailure } from "../src/local/failure";
import { ExampleProcesses } from "./example/processes";

/**
 * `npm run example`: the chat of `examples/chat`, three processes of it, with a limiter of its own. PORT is 8000.
 * `npm run example -- --test-clock`: the same with a limiter whose clock moves when it is told to.
 */
const project = resolve(import.meta.dirname, "..");

async function main(): Promise<void> {
  const hasTestClock = readArguments();
  const example = await ExampleProcesses.start({
    port: Number(process.env.PORT?.trim() || "8000"),
    hasTestClock,
    variables: hasTestClock ? {} : { LIMITER_DATA_DIR: resolve(project, ".data/example") },
  });
  let isStopping = false;
  const stop = async (code: number) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    await example.stop();
    process.exit(code);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop(0));
  example.ended.then((who) => {
    if (isStopping) return;
    console.error(`Ended unexpectedly, so all of it ends. ${who}`);
    stop(1);
  });

  console.log(`The chat is at ${example.url}, answered by three processes in turn. The limiter is at ${example.limiter.url}.
The sixth message within a minute has to wait; after 20 of them there is a paywall. Ctrl-C ends it.`);
  if (hasTestClock)
    console.log(`The limiter's clock stands still until you move it:

curl ${example.limiter.url}/test/clock -H 'Content-Type: application/json' -d '{"advance_seconds": 60}'
`);
}

function readArguments(): boolean {
  try {
    return parseArgs({ options: { "test-clock": { type: "boolean", default: false } } }).values["test-clock"];
  } catch (error) {
    throw new StartFailure(`${(error as Error).message}. There is one option: npm run example -- --test-clock`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof StartFailure ? error.message : error);
  process.exit(1);
});
