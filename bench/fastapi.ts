import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import autocannon from "autocannon";
import { ensurePython } from "../tools/python";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";
import { median, TOKEN } from "./load";
import { startProgram, startRedis, stopPrograms } from "./programs";

/**
 * `npm run bench:fastapi` measures what a limited route costs a FastAPI backend with one worker.
 *
 * Beside: a route without limits gets as many requests as it can answer, a limited route a steady number a second. The store
 * is 1 ms away. Measured in turn: slowapi on Redis, slowapi on the limiter, the limiter's dependency, and a route that awaits
 * 1 ms. Under load: the limited route itself gets as many requests as it can answer, and the store is not delayed.
 */
const ROUNDS = 3;
const SECONDS = 4;
const CONNECTIONS = 16;
const LOADED_CONNECTIONS = 64;
const LIMITED_PER_SECOND = 100;
const HERE = resolve(import.meta.dirname, "fastapi");

const delayed = (port: number | string) =>
  startProgram(process.execPath, ["--import", "tsx", join(HERE, "delay.ts"), String(port)], /port (\d+)/);

async function measure(url: string): Promise<{ perSecond: number; p99Ms: number; limitedPerSecond: number }> {
  const limited = autocannon({
    url: `${url}/limited`,
    connections: CONNECTIONS,
    duration: SECONDS,
    overallRate: LIMITED_PER_SECOND,
  });
  const free = await autocannon({ url: `${url}/free`, connections: CONNECTIONS, duration: SECONDS });
  const { requests, non2xx } = await limited;
  if (free.non2xx + non2xx > 0) throw new Error(`${free.non2xx} free and ${non2xx} limited requests failed`);
  return { perSecond: free.requests.average, p99Ms: free.latency.p99, limitedPerSecond: requests.average };
}

// The backend has a core of its own, so that the work of its store on this machine does not count as the backend's.
execFileSync("taskset", ["-acp", "1", String(process.pid)]);
const bin = ensurePython(["--editable=clients/python[fastapi,limits,test]", "uvicorn==0.54.0", "redis==8.1.0"]);
const plenty = {
  RATE_LIMIT_CHAT_PER_MIN: "1000000",
  RATE_LIMIT_CHAT_PER_HOUR: "1000000",
  RATE_LIMIT_CHAT_IP_PER_MIN: "1000000",
};
const service = await ServiceProcess.start({
  ...plenty,
  RATE_LIMIT_INLINE: "1",
  LIMITER_TOKENS: TOKEN,
  LIMITER_DATA_DIR: temporaryFolder(),
});
const redis = await startRedis(temporaryFolder());
const limiterPort = await delayed(new URL(service.url).port);
type Backend = Readonly<Record<"LIMITED_BY" | "STORE" | "TOKEN", string>>;
const beside: Record<string, Backend> = {
  "a route that awaits 1 ms": { LIMITED_BY: "sleep", STORE: "", TOKEN },
  "slowapi on Redis": { LIMITED_BY: "slowapi", STORE: `redis://127.0.0.1:${await delayed(redis)}`, TOKEN },
  "slowapi on the limiter": { LIMITED_BY: "slowapi", STORE: `limiter+http://${TOKEN}@127.0.0.1:${limiterPort}`, TOKEN },
  "the limiter's dependency": { LIMITED_BY: "dependency", STORE: `http://127.0.0.1:${limiterPort}`, TOKEN },
};
const underLoad: Record<string, Backend> = {
  "a dependency that awaits asyncio.sleep(0)": { LIMITED_BY: "nothing", STORE: "", TOKEN },
  "slowapi on Redis": { LIMITED_BY: "slowapi", STORE: `redis://127.0.0.1:${redis}`, TOKEN },
  "the limiter's dependency": { LIMITED_BY: "dependency", STORE: service.url, TOKEN },
};
const startBackend = (env: Backend) =>
  startProgram(
    "taskset",
    ["-c", "0", join(bin, "uvicorn"), "app:app", "--port", "0", "--no-access-log"],
    /running on (http:\S+)/,
    { cwd: HERE, env },
  );
const urls = new Map<string, string>();
for (const [name, env] of Object.entries(beside)) urls.set(name, await startBackend(env));
const loadedUrls = new Map<string, string>();
for (const [name, env] of Object.entries(underLoad)) loadedUrls.set(name, await startBackend(env));

const results = new Map<string, Awaited<ReturnType<typeof measure>>[]>();
for (let round = 0; round <= ROUNDS; round++)
  for (const [name, url] of urls) {
    process.stderr.write(`\rround ${round} of ${ROUNDS}: ${name.padEnd(40)}`);
    const result = await measure(url);
    // The first round warms up.
    if (round > 0) results.set(name, [...(results.get(name) ?? []), result]);
  }
const loaded = new Map<string, { perSecond: number; p99Ms: number }[]>();
for (let round = 0; round <= ROUNDS; round++)
  for (const [name, url] of loadedUrls) {
    process.stderr.write(`\rround ${round} of ${ROUNDS}, under load: ${name.padEnd(45)}`);
    const options = { url: `${url}/limited`, connections: LOADED_CONNECTIONS, duration: SECONDS };
    const { requests, latency, non2xx } = await autocannon(options);
    if (non2xx > 0) throw new Error(`${non2xx} limited requests failed`);
    const result = { perSecond: requests.average, p99Ms: latency.p99 };
    if (round > 0) loaded.set(name, [...(loaded.get(name) ?? []), result]);
  }
process.stderr.write("\r".padEnd(90));
stopPrograms();
await service.stop();

const of = (name: string, pick: "perSecond" | "p99Ms" | "limitedPerSecond") =>
  median((results.get(name) ?? []).map((result) => result[pick]));
const floor = of("a route that awaits 1 ms", "perSecond");
console.log(
  `\rA route without limits under ${CONNECTIONS} connections, beside ${LIMITED_PER_SECOND} requests a second to a limited one;\n` +
    `medians of ${ROUNDS} rounds of ${SECONDS} s:\n`,
);
for (const name of urls.keys()) {
  const ratio = (of(name, "perSecond") / floor).toFixed(2);
  const limited = of(name, "limitedPerSecond").toFixed(0);
  console.log(
    `${name.padEnd(26)} ${of(name, "perSecond").toFixed(0).padStart(6)}/s  ${ratio}  p99 ${of(name, "p99Ms")} ms  limited ${limited}/s`,
  );
}

const loadedOf = (name: string, pick: "perSecond" | "p99Ms") =>
  median((loaded.get(name) ?? []).map((result) => result[pick]));
const [baseline = ""] = loadedUrls.keys();
console.log(`\nA limited route under ${LOADED_CONNECTIONS} connections:\n`);
for (const name of loadedUrls.keys()) {
  const ratio = (loadedOf(name, "perSecond") / loadedOf(baseline, "perSecond")).toFixed(2);
  console.log(
    `${name.padEnd(42)} ${loadedOf(name, "perSecond").toFixed(0).padStart(6)}/s  ${ratio}  p99 ${loadedOf(name, "p99Ms")} ms`,
  );
}
