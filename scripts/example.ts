import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { StartFailure } from "../src/local/failure";
import { startChat } from "./example/chat";
import { startLlm } from "./example/llm";

/**
 * `npm run example` runs the chat of `examples/chat`, `npm run example:llm` the gateway of `examples/llm`: several processes
 * and a limiter of their own. PORT is 8000 by default. With `-- --test-clock` the limiter's clock stands still until a call
 * moves it.
 */
const EXAMPLES = {
  chat: {
    command: "npm run example",
    start: startChat,
    guide: `Three backend processes answer in turn.
The sixth message within a minute has to wait. After 20 messages comes the paywall.`,
  },
  llm: {
    command: "npm run example:llm",
    start: startLlm,
    guide: `Two gateways and a toy model answer.
A user has 10 requests and 1,000 tokens a minute, and 2 cents a day. What an answer does not use comes back.`,
  },
};

const project = resolve(import.meta.dirname, "..");

async function main(): Promise<void> {
  const { name, hasTestClock } = readArguments();
  const { start, guide } = EXAMPLES[name];
  const example = await start({
    port: Number(process.env.PORT?.trim() || "8000"),
    hasTestClock,
    variables: hasTestClock ? {} : { LIMITER_DATA_DIR: resolve(project, `.data/example-${name}`) },
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

  console.log(`The page is at ${example.url}. The limiter is at ${example.limiter.url}.
${guide} Ctrl-C ends the example.`);
  if (hasTestClock)
    console.log(`The limiter's clock stands still until you move it:

curl ${example.limiter.url}/test/clock -H 'Content-Type: application/json' -d '{"advance_seconds": 60}'
`);
}

/** The name of an example comes from package.json. */
function readArguments(): { name: keyof typeof EXAMPLES; hasTestClock: boolean } {
  const [name, ...args] = process.argv.slice(2);
  if (name !== "chat" && name !== "llm") throw new StartFailure("The examples are `chat` and `llm`.");
  try {
    const { values } = parseArgs({ args, options: { "test-clock": { type: "boolean", default: false } } });
    return { name, hasTestClock: values["test-clock"] };
  } catch (error) {
    const { command } = EXAMPLES[name];
    throw new StartFailure(`${(error as Error).message}. The only option is: ${command} -- --test-clock`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof StartFailure ? error.message : error);
  process.exit(1);
});
