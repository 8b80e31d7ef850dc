import { ServiceProcess } from "../../../tools/service-process";
import { TOKEN } from "../../load";
import { SERVICE } from "../../names";
import type { Limit, TraceRequest } from "../traces";
import type { Answer, Victim } from "./peer";

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

/** `npm start`, called over HTTP as any backend does, every message with an idempotency key. */
export async function startServicePeer(dataDirectory: string, limits: readonly Limit[]): Promise<Victim> {
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
    cannot: "",
    windowsSeen: 1,
    decide: (request) => consume(service.url, request),
    killed: "every process of `npm start`",
    async hurt() {
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

async function consume(url: string, { user, ip, cost, key, isRetry }: TraceRequest): Promise<Answer> {
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
  return { allowed: false, told: { from: "decision", ms: seconds * 1_000, roundedUpToMs: 1_000 } };
}
