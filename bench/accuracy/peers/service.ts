import { ServiceProcess } from "../../../tools/service-process";
import { TOKEN } from "../../load";
import { SERVICE } from "../../names";
import type { Limit, TraceRequest } from "../traces";
import type { CrashablePeer, PeerDecision } from "./peer";

const POLICY = "accuracy";

function policyOf(limits: readonly Limit[]): string {
  const layers = [...new Set(limits.map(({ layer }) => layer))].map((layer) => ({
    name: layer,
    by: [layer === "caller" ? "user" : "ip"],
    limits: limits
      .filter((limit) => limit.layer === layer)
      .map(({ max, windowMs }) => `${max} per ${windowMs / 1_000} seconds`),
  }));
  return JSON.stringify({ [POLICY]: { layers } });
}

/** This service by `npm start`, called over HTTP as a backend calls it. Every message has an idempotency key. */
export async function startServicePeer(dataDirectory: string, limits: readonly Limit[]): Promise<CrashablePeer> {
  const variables = {
    LIMITER_TOKENS: TOKEN,
    LIMITER_DATA_DIR: dataDirectory,
    RATE_LIMIT_POLICIES: policyOf(limits),
  };
  let service = await ServiceProcess.start(variables);
  let isUp = true;
  process.on("exit", () => isUp && process.kill(-Number(service.npm.pid)));

  return {
    name: SERVICE,
    limits,
    shortcomings: "",
    windowsSeen: 1,
    decide: (request) => consume(service.url, request),
    killedPart: "every process of `npm start`",
    async killAndRestart() {
      isUp = false;
      await service.killAll();
      service = await ServiceProcess.start(variables);
      isUp = true;
    },
    async stop() {
      isUp = false;
      await service.stop();
    },
  };
}

async function consume(url: string, { user, ip, cost, key, isRetry }: TraceRequest): Promise<PeerDecision> {
  const response = await fetch(`${url}/v1/consume`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${TOKEN}`,
      "Content-Type": "application/json",
      "Idempotency-Key": `"${key}"`,
      "Idempotency-Attempt": isRetry ? "2" : "1",
    },
    body: JSON.stringify({ policy: POLICY, subject: { user, ip }, cost }),
  });
  const text = await response.text();
  if (response.status === 200) return { allowed: true };
  if (response.status !== 429) throw new Error(`${response.status}: ${text}`);
  const seconds = Number(response.headers.get("Retry-After"));
  return { allowed: false, reportedWait: { from: "decision", ms: seconds * 1_000, roundedUpToMs: 1_000 } };
}
