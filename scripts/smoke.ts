import { parseArgs } from "node:util";
import { table } from "../tools/document";
import { firstTouch } from "./smoke/first-touch";
import { hotKey } from "./smoke/hot-key";
import { broken, type Line, look, timed } from "./smoke/line";
import { rpc } from "./smoke/rpc";
import { type Policy, Service } from "./smoke/service";
import { session } from "./smoke/session";

/**
 * `npm run smoke -- --url URL --token TOKEN` looks whether a service that was just deployed works, by keys of its own.
 * Each measured value stands beside what is normal for a caller near the objects. Ends with 1 when something is broken,
 * not when it is slow: that may be the way from here.
 */
const USAGE =
  "Usage: npm run smoke -- --url URL --token TOKEN [--policy chat] [--seconds 10] [--rpc-url URL]\nThe token may be in LIMITER_TOKENS too.";

/** The mean size of a log event, as Cloudflare published it. */
const LOG_EVENT_KB = 4.84;

interface Options {
  readonly url: string;
  readonly token: string;
  readonly policy: string;
  readonly seconds: number;
  readonly rpcUrl: string | undefined;
}

async function* smoke({ url, token, policy: name, seconds, rpcUrl }: Options): AsyncGenerator<Line> {
  const service = new Service(url.replace(/\/+$/, ""), token);
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

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        url: { type: "string" },
        token: { type: "string", default: process.env.LIMITER_TOKENS?.split(",")[0]?.trim() ?? "" },
        policy: { type: "string", default: "chat" },
        seconds: { type: "string", default: "10" },
        "rpc-url": { type: "string" },
      },
    });
    const { url, token, policy, "rpc-url": rpcUrl } = values;
    const seconds = Number(values.seconds);
    if (url && token && seconds > 0) return { url, token, policy, seconds, rpcUrl };
    console.error(USAGE);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
  }
  process.exitCode = 2;
  return undefined;
}

async function main(options: Options): Promise<void> {
  const lines: Line[] = [];
  try {
    for await (const line of smoke(options)) {
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

const options = readOptions();
if (options) await main(options);
