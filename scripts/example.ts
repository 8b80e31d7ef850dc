import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { StartFailure } from "../src/local/failure";
import { ExampleProcesses } from "./example/processes";

/**
 * `npm run example` runs the chat of `examples/chat`: three backend processes and a limiter of their own. PORT is 8000 by
 * default. With `-- --test-clock` the limiter's clock stands still until a call moves it.
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
  example.ended.then((description) => {
    if (isStopping) return;
    console.error(`A process ended unexpectedly, so the example ends. ${description}`);
    stop(1);
  });

  console.log(`The chat is at ${example.url}. Three backend processes answer in turn. The limiter is at ${example.limiter.url}.
The sixth message within a minute has to wait. After 20 messages comes the paywall. Ctrl-C ends the example.`);
  if (hasTestClock)
    console.log(`The limiter's clock stands still until you move it:

curl ${example.limiter.url}/test/clock -H 'Content-Type: application/json' -d '{"advance_seconds": 60}'
`);
}

function readArguments(): boolean {
  try {
    return parseArgs({ options: { "test-clock": { type: "boolean", default: false } } }).values["test-clock"];
  } catch (error) {
    throw new StartFailure(`${(error as Error).message}. The only option is: npm run example -- --test-clock`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof StartFailure ? error.message : error);
  process.exit(1);
});
