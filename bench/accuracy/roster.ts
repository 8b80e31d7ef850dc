import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ensurePython } from "../../tools/python";
import { freePort, SYNCED_AT_EVERY_WRITE, spawnRedis, startRedis, startRestartable } from "../programs";
import { startCloudflare } from "./peers/cloudflare";
import { startEnvoy } from "./peers/envoy";
import { ENVOY_RATELIMIT, ensureGo, GUBERNATOR } from "./peers/go";
import { startGubernator } from "./peers/gubernator";
import { Container, limitsPeer, type Strategy } from "./peers/limits";
import type { CrashablePeer, Peer } from "./peers/peer";
import { startFlexible } from "./peers/rate-limiter-flexible";
import { startServicePeer } from "./peers/service";
import { startUpstash } from "./peers/upstash";
import { CONTAINERS, CRASH_LIMITS, LIMITS } from "./traces";

const PYTHON = ["limits==5.8.0", "redis==8.1.0"];
/** The versions of peers that are not packages of this project. */
export const VERSIONS = [
  ...PYTHON.map((requirement) => requirement.replace("==", " ")),
  ...[GUBERNATOR, ENVOY_RATELIMIT].map((module) => `${module.split("/")[2]} ${module.split("@")[1]}`),
];
const IN_MEMORY: Strategy = { storage: "memory", strategy: "moving-window" };
const ON_REDIS: readonly Strategy[] = (["fixed-window", "moving-window", "sliding-window-counter"] as const).map(
  (strategy) => ({ storage: "redis", strategy }),
);

const pythonOf = () => join(ensurePython(PYTHON, ".venv-bench"), "python");

function startContainers(redisPort: number): Container[] {
  const python = pythonOf();
  return Array.from({ length: CONTAINERS }, () => new Container(python, redisPort));
}

/** Starts this service, and the limiter that most backends begin with. */
export async function startShortRoster(folder: string): Promise<Peer[]> {
  const containers = startContainers(0);
  return [await startServicePeer(join(folder, "service"), LIMITS), limitsPeer(containers, IN_MEMORY, LIMITS)];
}

/** Starts this service and all peers. A peer that can't be built here is left out, with a message. */
export async function startRoster(folder: string): Promise<Peer[]> {
  mkdirSync(join(folder, "redis"));
  const redisPort = await startRedis(join(folder, "redis"));
  const containers = startContainers(redisPort);
  const gubernator = ensureGo(GUBERNATOR);
  const envoy = ensureGo(ENVOY_RATELIMIT);
  return [
    await startServicePeer(join(folder, "service"), LIMITS),
    ...[IN_MEMORY, ...ON_REDIS].map((strategy) => limitsPeer(containers, strategy, LIMITS)),
    startFlexible(redisPort, LIMITS),
    startUpstash(redisPort, LIMITS),
    await startCloudflare(LIMITS),
    ...(gubernator ? [await startGubernator(gubernator, LIMITS)] : []),
    ...(envoy ? [await startEnvoy(envoy, join(folder, "envoy"), redisPort, LIMITS)] : []),
  ];
}

/** Persistence settings of Redis, Debian's own first. */
const PERSISTENCE: Readonly<Record<string, readonly string[]>> = {
  "snapshots, Debian's settings": ["--save", "3600 1 300 100 60 10000"],
  "append-only, synced every second": ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""],
  "append-only, synced at every write": SYNCED_AT_EVERY_WRITE,
};

/** Starts every kind of store of counters. One limiter on Redis stands for all: it keeps what its Redis keeps. */
export async function startCrashable(folder: string): Promise<CrashablePeer[]> {
  const python = pythonOf();
  const container = new Container(python, 0);
  const gubernator = ensureGo(GUBERNATOR);
  const onRedis = Object.entries(PERSISTENCE).map(async ([how, settings], i): Promise<CrashablePeer> => {
    const directory = join(folder, `redis-${i}`);
    mkdirSync(directory);
    const port = await freePort();
    const redis = await startRestartable(() => spawnRedis(directory, port, settings));
    return {
      ...limitsPeer([new Container(python, port)], { storage: "redis", strategy: "moving-window" }, CRASH_LIMITS),
      killedPart: `Redis: ${how}`,
      killAndRestart: () => redis.restart(),
    };
  });
  return [
    await startServicePeer(join(folder, "service-crash"), CRASH_LIMITS),
    {
      ...limitsPeer([container], IN_MEMORY, CRASH_LIMITS),
      killedPart: "the container",
      killAndRestart: () => container.killAndRestart(),
    },
    ...(await Promise.all(onRedis)),
    await startCloudflare(CRASH_LIMITS),
    ...(gubernator ? [await startGubernator(gubernator, CRASH_LIMITS)] : []),
  ];
}
