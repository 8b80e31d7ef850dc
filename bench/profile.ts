import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { WebSocket } from "ws";
import { bundle } from "../src/local/bundle";
import { table } from "../tools/document";
import { temporaryFolder } from "../tools/temporary-folder";
import type { Settings } from "./in-process/settings";
import { load, TOKEN } from "./load";
import { type Extent, showProgress } from "./measure";
import { freePort, startProgram } from "./programs";
import { LIMITER_OBJECTS, startWorker } from "./worker";
import { LIMIT_VARIABLES, LIMITS, WORKLOADS, type WorkloadName } from "./workloads";

/** A CPU profile of V8, in the format of Chrome's developer tools. */
interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
}

const MOST_FUNCTIONS = 30;

/**
 * Profiles the service under a workload. Prints the functions that take most of the time, and writes the whole profile for
 * Chrome's developer tools. The runtime's own work appears as `(program)`; use `perf record -g` on the process `workerd`
 * for that.
 */
export async function benchProfile({ seconds }: Extent, workload: WorkloadName | "session" = "session"): Promise<void> {
  const inspectorPort = await freePort();
  const { url, stop } = await startWorker({
    dataDirectory: join(temporaryFolder(), "data"),
    script: await bundle(resolve(import.meta.dirname, "../src/worker.ts")),
    variables: { ...LIMIT_VARIABLES, LIMITER_TOKENS: TOKEN, LIMITER_PLACEMENT: "shards:1" },
    objects: { ...LIMITER_OBJECTS, LIMITER_HUBS: "HubObject" },
    inspectorPort,
  });
  const underLoad = (forSeconds: number): Promise<unknown> => {
    if (workload === "session") return driveSession(url.origin, forSeconds);
    const { path, bodies } = WORKLOADS[workload];
    return load({ url: url.origin + path, connections: 32, seconds: forSeconds, bodies });
  };
  showProgress(`profiling ${workload} for ${seconds} s`);
  await underLoad(2);
  const profiled = profileOf(inspectorPort, seconds);
  await underLoad(seconds + 1);
  const profile = await profiled;
  await stop();
  const file = resolve(`${workload}.cpuprofile`);
  writeFileSync(file, JSON.stringify(profile));
  showProgress("");
  console.log(`${functionTable(profile)}\n\nThe whole profile, for Chrome's developer tools: ${file}`);
}

/** One session with 128 decisions in flight. */
async function driveSession(url: string, seconds: number): Promise<void> {
  const settings: Settings = {
    ...{ side: "session", workload: "spread", inFlight: 128, seconds, warmUpSeconds: 0, url, token: TOKEN },
    ...{ redisPort: 0, serverPid: process.pid, script: "", limits: LIMITS.chat },
  };
  const driver = resolve(import.meta.dirname, "in-process/drive.ts");
  await startProgram(process.execPath, ["--import", "tsx", driver, JSON.stringify(settings)], /^(\{.*\})$/m);
}

async function profileOf(port: number, seconds: number): Promise<Profile> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as { webSocketDebuggerUrl: string }[];
  const socket = new WebSocket(targets[0]?.webSocketDebuggerUrl ?? "");
  await new Promise((opened) => socket.once("open", opened));
  let lastId = 0;
  const call = (method: string) =>
    new Promise<{ profile: Profile }>((resolve) => {
      const id = ++lastId;
      socket.on("message", (data) => {
        const message = JSON.parse(String(data)) as { id: number; result: { profile: Profile } };
        if (message.id === id) resolve(message.result);
      });
      socket.send(JSON.stringify({ id, method }));
    });
  await call("Profiler.enable");
  await call("Profiler.start");
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const { profile } = await call("Profiler.stop");
  socket.close();
  return profile;
}

/** The share of samples in each function itself, and in the function with what it calls. */
function functionTable({ nodes, samples }: Profile): string {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, callFrame.functionName || "(anonymous)"]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const own = new Map<string, number>();
  const whole = new Map<string, number>();
  const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  for (const sample of samples) {
    count(own, names.get(sample) ?? "");
    const stack = new Set<string>();
    for (let id: number | undefined = sample; id !== undefined; id = parents.get(id)) stack.add(names.get(id) ?? "");
    for (const name of stack) count(whole, name);
  }
  const share = (samplesOf: number) => `${((samplesOf / samples.length) * 100).toFixed(1)}%`;
  const rows = [...own]
    .sort(([, a], [, b]) => b - a)
    .slice(0, MOST_FUNCTIONS)
    .map(([name, samplesOf]) => [`\`${name}\``, share(samplesOf), share(whole.get(name) ?? 0)]);
  return table(["function", "itself", "with what it calls"], rows);
}
