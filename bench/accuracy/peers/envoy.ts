import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, startProgram } from "../../programs";
import { costUnder, keyOf, type Limit } from "../traces";
import { longestOf, type Peer } from "./peer";

const UNITS: Readonly<Record<number, string>> = { 1000: "second", 60000: "minute" };

interface Reply {
  readonly overallCode: "OK" | "OVER_LIMIT";
  readonly statuses: readonly { readonly code: string; readonly durationUntilReset?: string }[];
}

/** Starts the rate limit service of Envoy, and calls it over its JSON endpoint. Its limits are per second or minute here. */
export async function startEnvoy(
  program: string,
  folder: string,
  redisPort: number,
  limits: readonly Limit[],
): Promise<Peer> {
  const own = limits.filter(({ windowMs }) => windowMs in UNITS);
  const lines = own.map(
    ({ layer, max, windowMs }) =>
      `  - key: ${layer}\n    rate_limit: { unit: ${UNITS[windowMs]}, requests_per_unit: ${max} }`,
  );
  mkdirSync(join(folder, "config"), { recursive: true });
  writeFileSync(join(folder, "config/accuracy.yaml"), `domain: accuracy\ndescriptors:\n${lines.join("\n")}\n`);
  const [http, grpc, debug] = await Promise.all([freePort(), freePort(), freePort()]);
  const env = {
    RUNTIME_ROOT: folder,
    RUNTIME_WATCH_ROOT: "false",
    REDIS_SOCKET_TYPE: "tcp",
    REDIS_URL: `127.0.0.1:${redisPort}`,
    USE_STATSD: "false",
    DISABLE_STATS: "true",
    ...{ HOST: "127.0.0.1", GRPC_HOST: "127.0.0.1", DEBUG_HOST: "127.0.0.1" },
    ...{ PORT: String(http), GRPC_PORT: String(grpc), DEBUG_PORT: String(debug) },
  };
  await startProgram(program, [], /Listening for HTTP/, { env });
  return {
    name: "envoyproxy/ratelimit",
    limits: own,
    shortcomings: "whole seconds, minutes, hours and days alone; each limit decided by itself; no idempotency key",
    skippedTraces: ["tokens"],
    windowsSeen: 1,
    async decide(request) {
      const descriptors = own.map((limit) => ({ entries: [{ key: limit.layer, value: keyOf(limit, request) }] }));
      const body = JSON.stringify({ domain: "accuracy", descriptors, hitsAddend: costUnder(own[0] as Limit, request) });
      const response = await fetch(`http://127.0.0.1:${http}/json`, { method: "POST", body });
      if (response.status !== 200 && response.status !== 429) throw new Error(await response.text());
      const { overallCode, statuses } = (await response.json()) as Reply;
      const denied = statuses.filter(({ code }) => code === "OVER_LIMIT");
      const reportedWait = denied.map(({ durationUntilReset }) => {
        const seconds = Number.parseFloat(durationUntilReset ?? "0");
        return { from: "decision", ms: seconds * 1_000, roundedUpToMs: 1_000 } as const;
      });
      return { allowed: overallCode === "OK", reportedWait: longestOf(reportedWait) };
    },
  };
}
