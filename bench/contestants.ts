import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { Redis } from "ioredis";
import { ensurePython } from "../tools/python";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";
import { type Floor, startFloors } from "./floors";
import { TOKEN } from "./load";
import { FLEXIBLE, LUA_PEER, SERVICE, SLOWAPI, UPSTASH } from "./names";
import { freePort, startProgram, startRedis } from "./programs";
import { KEYS, LIMIT_VARIABLES, LIMITS, WORKLOADS, type WorkloadName } from "./workloads";

export interface Contestant {
  readonly name: string;
  /** The guarantees behind its numbers. */
  readonly guarantees: string;
  readonly url: string;
  readonly workloads: readonly WorkloadName[];
}

export interface Arena {
  readonly contestants: readonly Contestant[];
  readonly floors: readonly Floor[];
  /** Forgets all decisions: in minutes the peers and the service would hold more of them than limits of a chat ever allow. */
  clear(): Promise<void>;
  stop(): Promise<void>;
}

const ALL = Object.keys(WORKLOADS) as WorkloadName[];
const PEERS = resolve(import.meta.dirname, "peers");

/** Starts `npm start` with data of its own. It ends with the benchmark at the latest. */
export async function startLimiter(dataDirectory: string, variables: Record<string, string>): Promise<ServiceProcess> {
  const service = await ServiceProcess.start({
    LIMITER_TOKENS: TOKEN,
    LIMITER_DATA_DIR: dataDirectory,
    ...variables,
  });
  service.ended.then((code) => {
    if (code !== 0) console.error(`\nThe service ended (${code}):\n${service.output}`);
  });
  return service;
}

/** Starts this service, its peers and the floors, installing what is missing. */
export async function startArena(): Promise<Arena> {
  const folder = temporaryFolder();
  const service = await startLimiter(join(folder, "service"), { ...LIMIT_VARIABLES, LIMITER_ADMIN_TOKENS: TOKEN });
  mkdirSync(join(folder, "redis"));
  const redisPort = await startRedis(join(folder, "redis"));
  const redis = new Redis(redisPort);
  const env = { TOKEN, LIMITS: JSON.stringify(LIMITS), REDIS_PORT: String(redisPort) };
  const node = (name: string) =>
    startProgram(process.execPath, ["--import", "tsx", join(PEERS, `${name}.ts`)], /(http:\S+)/, { env });
  const batches = (await service.fetch("/v1/batch", { method: "POST" })).status !== 404;
  if (!batches) console.error("The service has no POST /v1/batch: batches are left out.");
  const floors = await startFloors(service, join(folder, "floors"));

  return {
    contestants: [
      {
        name: SERVICE,
        guarantees: "exact; durable before it answers; all or nothing over its keys; idempotent",
        url: service.url,
        workloads: ALL.filter((name) => name !== "batch" || batches),
      },
      {
        name: LUA_PEER,
        guarantees: "exact; durable before it answers; all or nothing on one Redis; not idempotent",
        url: await node("redis-lua"),
        workloads: ALL,
      },
      {
        name: FLEXIBLE,
        guarantees: "fixed windows: up to twice the limit where two meet; durable; each limit charged by itself",
        url: await node("rate-limiter-flexible"),
        workloads: ALL.filter((name) => name !== "batch"),
      },
      {
        name: UPSTASH,
        guarantees: "an estimate from two fixed windows; durable; each limit charged by itself",
        url: await node("upstash"),
        workloads: ALL.filter((name) => name !== "batch"),
      },
      {
        name: SLOWAPI,
        guarantees: "exact for each limit; durable; one limit after the other, those before a denial stay charged",
        url: await startSlowapi(env),
        workloads: ALL.filter((name) => name !== "batch" && name !== "check"),
      },
    ],
    floors: floors.floors,
    async clear() {
      await Promise.all([forgetAll(service), redis.flushall()]);
    },
    async stop() {
      redis.disconnect();
      await Promise.all([service.stop(), floors.stop()]);
    },
  };
}

async function forgetAll(service: ServiceProcess): Promise<void> {
  const headers = { Authorization: `Bearer ${TOKEN}` };
  for (let i = 0; i < KEYS.length; i += 50)
    await Promise.all(
      KEYS.slice(i, i + 50).map(async (key) => {
        const { ok, status } = await service.fetch(`/v1/keys/${encodeURIComponent(key)}`, {
          method: "DELETE",
          headers,
        });
        if (!ok) throw new Error(`${key} could not be reset: ${status}`);
      }),
    );
}

async function startSlowapi(env: Record<string, string>): Promise<string> {
  const requirements = ["fastapi==0.139.2", "slowapi==0.1.10", "redis==8.1.0", "uvicorn[standard]==0.54.0"];
  const bin = ensurePython(requirements, ".venv-bench");
  const port = String(await freePort());
  const args = ["slowapi_app:app", "--port", port, "--no-access-log", "--log-level", "info"];
  return startProgram(join(bin, "uvicorn"), args, /running on (http:\S+)/, { cwd: PEERS, env });
}
