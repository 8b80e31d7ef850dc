import { type Command, InvalidArgumentError } from "commander";
import { CONNECTION_HELP, type Connection, connectionTo } from "../connection";
import { table } from "../table";
import { firstTouch } from "./first-touch";
import { hotKey } from "./hot-key";
import { broken, type Line, look, timed } from "./line";
import { rpc } from "./rpc";
import { type Policy, Service } from "./service";
import { session } from "./session";

/** The mean size of a log event, as Cloudflare published it. */
const LOG_EVENT_KB = 4.84;

interface Options {
  readonly url?: string;
  readonly token?: string;
  readonly policy: string;
  readonly seconds: number;
  readonly rpcUrl?: string;
}

/**
 * `exact-limiter smoke` looks whether a service that was just deployed works, by keys of its own. Each measured value stands
 * beside what is normal for a caller near the objects. It fails when something is broken, not when it is slow: that may be
 * the way from here.
 */
export function addSmoke(program: Command): void {
  program
    .command("smoke")
    .description("looks whether a service works, with keys of its own")
    .option("--url <url>", "of the service")
    .option("--token <token>", "a caller's. Other users of this machine can read it: EXACT_LIMITER_TOKEN hides it")
    .option("--policy <name>", "the policy to ask for", "chat")
    .option("--seconds <number>", "how long a hot key is under load", readSeconds, 10)
    .option("--rpc-url <url>", "of the Worker of examples/rpc")
    .addHelpText("after", CONNECTION_HELP)
    .action(report);
}

async function* smoke({ url, token }: Connection, { policy: name, seconds, rpcUrl }: Options): AsyncGenerator<Line> {
  const service = new Service(url, token);
  const health = await service.get("/healthz");
  if (health.status !== 200) {
    yield broken("/healthz", `${health.status}: ${JSON.stringify(health.body)}`, "200");
    return;
  }
  const { status, body, ms } = await service.get("/v1/policies");
  const { policies = [] } = body as { policies?: readonly Policy[] };
  const policy = policies.find((policy) => policy.name === name);
  if (status !== 200 || !policy) {
    yield broken(
      "the token, the policy",
      status === 200 ? `no policy ${name}` : `${status}: ${JSON.stringify(body)}`,
      "200",
    );
    return;
  }
  yield timed("a request that asks no object", ms, 100);
  yield* await firstTouch(service, policy);
  yield* await session(service, policy);
  yield await hotKey(service, policy, seconds);
  yield await rpc(rpcUrl, token, policy);
  yield* atCloudflare(service.requests);
}

/** What only Cloudflare can show, and where. */
function atCloudflare(requests: number): Line[] {
  const megabytes = (requests * LOG_EVENT_KB) / 1_000;
  return [
    look(
      "bytes logged",
      "dashboard: the Worker, Observability, Events, the last 5 minutes",
      `no event unless something failed. An event for each of these ${requests} requests, some ${megabytes.toFixed(1)} MB, is invocation_logs: turn it off`,
    ),
    look(
      "where objects are",
      "dashboard: Durable Objects, the namespace, Metrics",
      "your region, or your jurisdiction",
    ),
  ];
}

function readSeconds(text: string): number {
  if (!(Number(text) > 0)) throw new InvalidArgumentError("It must be a number above 0.");
  return Number(text);
}

async function report(options: Options): Promise<void> {
  const connection = connectionTo("caller", options);
  const lines: Line[] = [];
  try {
    for await (const line of smoke(connection, options)) {
      lines.push(line);
      console.error(`${line.state}: ${line.what}`);
    }
  } catch (error) {
    const { message, cause } = error as Error;
    lines.push(broken("the service", cause instanceof Error ? cause.message : message, "answers"));
  }
  const rows = lines.map(({ what, measured, normal, state }) => [state, what, measured, normal]);
  console.log(table(["", "what", "measured", "normal"], rows, "left"));
  if (lines.some(({ state }) => state === "BROKEN")) process.exitCode = 1;
}
