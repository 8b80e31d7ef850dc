import { setTimeout as sleep } from "node:timers/promises";
import { processorSecondsOf } from "../../tools/resources";
import type { Result, Settings } from "./settings";
import { type Ask, SIDES } from "./sides";

/** `drive.ts SETTINGS` is a Node backend that does nothing but ask. Prints a `Result`. */

const USERS = 1_000;
/** A stride without a common factor with the number of users spreads neighbours over the users, and uses all of them. */
const STRIDE = 37;
/** Fewer than the unanswered requests that a session may have. A decision that is due later waits, and that counts. */
const MOST_PENDING = 900;

const settings = JSON.parse(process.argv[2] ?? "{}") as Settings;
const isOneKey = settings.workload === "hot" || settings.workload === "flood";
let asked = 0;
const nextUser = () => (isOneKey ? 7 : (asked++ * STRIDE) % USERS);

/** Keeps `inFlight` decisions in flight. Returns the latency of each. */
async function keepInFlight(ask: Ask, seconds: number): Promise<number[]> {
  const latenciesMs: number[] = [];
  const endMs = performance.now() + seconds * 1_000;
  const loop = async () => {
    for (let fromMs = performance.now(); fromMs < endMs; fromMs = performance.now()) {
      await ask(nextUser());
      latenciesMs.push(performance.now() - fromMs);
    }
  };
  await Promise.all(Array.from({ length: settings.inFlight }, loop));
  return latenciesMs;
}

/** Asks evenly, whether earlier decisions were made or not. A latency counts from the instant at which its decision was due. */
async function askEvenly(ask: Ask, seconds: number, perSecond: number): Promise<number[]> {
  const latenciesMs: number[] = [];
  const pending = new Set<Promise<void>>();
  const startMs = performance.now();
  let sent = 0;
  const askOne = async (dueMs: number) => {
    await ask(nextUser());
    latenciesMs.push(performance.now() - dueMs);
  };
  while (performance.now() < startMs + seconds * 1_000) {
    const due = ((performance.now() - startMs) / 1_000) * perSecond;
    for (; sent < due && pending.size < MOST_PENDING; sent++) {
      const one: Promise<void> = askOne(startMs + (sent / perSecond) * 1_000).finally(() => pending.delete(one));
      pending.add(one);
    }
    await sleep(1);
  }
  await Promise.all(pending);
  return latenciesMs;
}

async function drive({ side, seconds, warmUpSeconds, perSecond, serverPid }: Settings): Promise<Result> {
  const ask = await (SIDES[side] as (settings: Settings) => Promise<Ask>)(settings);
  const run = (forSeconds: number) =>
    perSecond === undefined ? keepInFlight(ask, forSeconds) : askEvenly(ask, forSeconds, perSecond);
  await run(warmUpSeconds);
  const serverSeconds = processorSecondsOf(serverPid);
  const client = process.cpuUsage();
  const startMs = performance.now();
  const latencies = Float64Array.from(await run(seconds));
  const tookSeconds = (performance.now() - startMs) / 1_000;
  const { user, system } = process.cpuUsage(client);
  const serverMicros = (processorSecondsOf(serverPid) - serverSeconds) * 1e6;
  latencies.sort();
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
  return {
    perSecond: latencies.length / tookSeconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    clientMicros: (user + system) / latencies.length,
    serverMicros: serverMicros / latencies.length,
  };
}

console.log(JSON.stringify(await drive(settings)));
process.exit();
