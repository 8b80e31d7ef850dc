import { freePort, spawnProgram, startRestartable } from "../../programs";
import { costUnder, decidingLimits, keyOf, type Limit } from "../traces";
import { type CrashablePeer, longestOf } from "./peer";

interface Reply {
  readonly responses: readonly {
    readonly status: "UNDER_LIMIT" | "OVER_LIMIT";
    readonly reset_time: string;
    readonly error: string;
  }[];
}

/** Starts gubernator as a cluster of one, with its token bucket. All limits travel in one call. */
export async function startGubernator(program: string, limits: readonly Limit[]): Promise<CrashablePeer> {
  const [http, grpc, members] = await Promise.all([freePort(), freePort(), freePort()]);
  const address = (port: number) => `127.0.0.1:${port}`;
  const env = {
    GUBER_HTTP_ADDRESS: address(http),
    GUBER_GRPC_ADDRESS: address(grpc),
    GUBER_ADVERTISE_ADDRESS: address(grpc),
    GUBER_MEMBERLIST_BIND_ADDRESS: address(members),
    GUBER_MEMBERLIST_ADDRESS: address(members),
    GUBER_MEMBERLIST_KNOWN_NODES: address(members),
    OTEL_TRACES_EXPORTER: "none",
    GUBER_LOG_LEVEL: "info",
  };
  const server = await startRestartable(() => spawnProgram(program, [], /HTTP Gateway Listening/, { env }));
  return {
    name: "gubernator",
    limits,
    shortcomings: "each limit decided by itself; no idempotency key",
    windowsSeen: 1,
    async decide(request) {
      const requests = decidingLimits(limits, request).map((limit) => ({
        name: `${limit.layer}/${limit.windowMs}`,
        uniqueKey: keyOf(limit, request),
        hits: costUnder(limit, request),
        limit: limit.max,
        duration: limit.windowMs,
        algorithm: "TOKEN_BUCKET",
      }));
      if (requests.length === 0) return { allowed: true };
      const body = JSON.stringify({ requests });
      const response = await fetch(`http://${address(http)}/v1/GetRateLimits`, { method: "POST", body });
      if (!response.ok) throw new Error(await response.text());
      const { responses } = (await response.json()) as Reply;
      for (const { error } of responses) if (error) throw new Error(error);
      const denied = responses.filter(({ status }) => status === "OVER_LIMIT");
      const reportedWait = denied.map(
        ({ reset_time }) => ({ from: "epoch", ms: Number(reset_time), roundedUpToMs: 1 }) as const,
      );
      return { allowed: denied.length === 0, reportedWait: longestOf(reportedWait) };
    },
    killedPart: "gubernator",
    killAndRestart: () => server.restart(),
  };
}
