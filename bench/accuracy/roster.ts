import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ensurePython } from "../../tools/python";
import { freePort, SYNCED_AT_EVERY_WRITE, spawnRedis, startRedis } from "../programs";
import { startCloudflare } from "./peers/cloudflare";
import { startEnvoy } from "./peers/envoy";
import { ENVOY_RATELIMIT, ensureGo, GUBERNATOR } from "./peers/go";
import { startGubernator } from "./peers/gubernator";
import { Container, limitsPeer, type Strategy } from "./peers/limits";
import type { Peer, Victim } from "./peers/peer";
import { startFlexible } from "./peers/rate-limiter-flexible";
import { startServicePeer } from "./peers/service";
import { startUpstash } from "./peers/upstash";
import { CONTAINERS, HURT_LIMITS, LIMITS } from "./traces";

const PYTHON = ["limits==5.8.0", "redis==8.1.0"];
/** Of those that are not packages of this project. */
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

/** This service, and what most backends begin with. */
export async function startTwo(folder: string): Promise<Peer[]> {
  const containers = startContainers(0);
  return [await startServicePeer(join(folder, "service"), LIMITS), limitsPeer(containers, IN_MEMORY, LIMITS)];
}

/** All of them; one that can't be built here is left out, and said to be. */
export async function startAll(folder: string): Promise<Peer[]> {
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

/** How a Redis keeps what it knows. Debian's own settings are the first. */
const PERSISTENCE: Readonly<Record<string, readonly string[]>> = {
  "snapshots, Debian's settings": ["--save", "3600 1 300 100 60 10000"],
  "append-only, synced every second": ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""],
  "append-only, synced at every write": SYNCED_AT_EVERY_WRITE,
};

/** Whatever keeps counters itself. A limiter on Redis keeps what its Redis keeps. */
export async function startVictims(folder: string): Promise<Victim[]> {
  const python = pythonOf();
  const container = new Container(python, 0);
  const gubernator = ensureGo(GUBERNATOR);
  const onRedis = Object.entries(PERSISTENCE).map(async ([how, settings], i): Promise<Victim> => {
    const directory = join(folder, `redis-${i}`);
    mkdirSync(directory);
    const port = await freePort();
    let redis = await spawnRedis(directory, port, settings);
    return {
      ...limitsPeer([new Container(python, port)], { storage: "redis", strategy: "moving-window" }, HURT_LIMITS),
      killed: `Redis: ${how}`,
      async hurt() {
        await redis.kill();
        redis = await spawnRedis(directory, port, settings);
      },
    };
  });
  return [
    await startServicePeer(join(folder, "service-hurt"), HURT_LIMITS),
    { ...limitsPeer([container], IN_MEMORY, HURT_LIMITS), killed: "the container", hurt: () => container.hurt() },
    ...(await Promise.all(onRedis)),
    await startCloudflare(HURT_LIMITS),
    ...(gubernator ? [await startGubernator(gubernator, HURT_LIMITS)] : []),
  ];
}
