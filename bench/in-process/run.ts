import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensurePython } from "../../tools/python";
import { workerdOf } from "../../tools/resources";
import { temporaryFolder } from "../../tools/temporary-folder";
import { startLimiter } from "../contestants";
import { median, TOKEN } from "../load";
import { type Extent, showProgress } from "../measure";
import { SCRIPT } from "../peers/decide-script";
import { freePort, SYNCED_AT_EVERY_WRITE, spawnRedis, startProgram } from "../programs";
import { LIMIT_VARIABLES, LIMITS } from "../workloads";
import type { Scenario, Side } from "./scenarios";
import type { Result, Settings } from "./settings";

const HERE = import.meta.dirname;
/** V8 compiles the service's code anew in every run: at 20,000 decisions a second that takes some 2 s. */
const WARM_UP_SECONDS = 3;
const REQUIREMENTS = ["--editable=clients/python[limits]", "limits[async-redis]==5.8.0", "redis[hiredis]==8.1.0"];
export const PYTHON_PACKAGES = ["limits 5.8.0", "redis-py 8.1.0 with hiredis"];

/** The medians of one side. */
export interface Measured extends Result {
  readonly scenario: Scenario;
  readonly side: Side;
}

type Server = Pick<Settings, "url" | "redisPort" | "serverPid"> & { stop(): Promise<unknown> };

/** Measures the sides of each scenario in turn, in several rounds: medians. Each run has a server and data of its own. */
export async function measureScenarios(
  scenarios: readonly Scenario[],
  { rounds, seconds }: Extent,
  perSecond?: number,
): Promise<Measured[]> {
  const folder = temporaryFolder();
  const turns = scenarios.flatMap((scenario) => scenario.sides.map((side) => ({ scenario, side })));
  const samples = turns.map(() => [] as Result[]);
  for (let round = 1; round <= rounds; round++)
    for (const [i, { scenario, side }] of turns.entries()) {
      showProgress(`round ${round} of ${rounds}, ${i + 1} of ${turns.length}: ${scenario.name}, ${side.name}`);
      samples[i]?.push(
        await measureOnce(scenario, side, { folder: join(folder, `${round}-${i}`), seconds, perSecond }),
      );
    }
  showProgress("");
  return turns.map((turn, i) => {
    const of = (pick: keyof Result) => median((samples[i] ?? []).map((sample) => sample[pick]));
    return {
      ...turn,
      perSecond: of("perSecond"),
      p50Ms: of("p50Ms"),
      p99Ms: of("p99Ms"),
      clientMicros: of("clientMicros"),
      serverMicros: of("serverMicros"),
    };
  });
}

async function measureOnce(
  { driver, inFlight, sessions = 1 }: Scenario,
  { side, isService, workload = "spread" }: Side,
  { folder, seconds, perSecond }: { folder: string; seconds: number; perSecond: number | undefined },
): Promise<Result> {
  const { stop, ...server } = await (isService ? startService(folder) : startStore(folder));
  const settings: Settings = {
    ...server,
    ...(perSecond === undefined ? {} : { perSecond }),
    ...{ side, workload, inFlight, sessions, seconds },
    warmUpSeconds: WARM_UP_SECONDS,
    token: TOKEN,
    script: SCRIPT,
    limits: LIMITS[workload === "flood" ? "flood" : "chat"],
  };
  const result = await startProgram(...commandOf(driver, JSON.stringify(settings)), /^(\{.*\})$/m);
  await stop();
  rmSync(folder, { recursive: true, force: true });
  return JSON.parse(result) as Result;
}

async function startService(folder: string): Promise<Server> {
  const service = await startLimiter(folder, LIMIT_VARIABLES);
  return { url: service.url, redisPort: 0, serverPid: workerdOf(service), stop: () => service.stop() };
}

async function startStore(folder: string): Promise<Server> {
  const redisPort = await freePort();
  mkdirSync(folder);
  const redis = await spawnRedis(folder, redisPort, SYNCED_AT_EVERY_WRITE);
  return { url: "", redisPort, serverPid: Number(redis.match), stop: () => redis.kill() };
}

function commandOf(driver: Scenario["driver"], settings: string): [string, string[]] {
  if (driver === "node") return [process.execPath, ["--import", "tsx", join(HERE, "drive.ts"), settings]];
  const bin = ensurePython(REQUIREMENTS, ".venv-in-process");
  return [join(bin, "python"), [join(HERE, "drive.py"), settings]];
}
