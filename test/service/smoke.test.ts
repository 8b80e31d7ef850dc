import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { Miniflare, type WorkerOptions } from "miniflare";
import { afterAll, beforeAll, expect, test } from "vitest";
import { unstable_getMiniflareWorkerOptions as miniflareWorkerOptions } from "wrangler";
import { judge, Tally } from "../../src/cli/smoke/hot-key";
import type { Policy } from "../../src/cli/smoke/service";
import { bundle } from "../../src/local/bundle";
import { ServiceProcess } from "../../tools/service-process";
import { variables } from "./service";

const PROJECT = resolve(import.meta.dirname, "../..");

let service: ServiceProcess;
beforeAll(async () => {
  service = await ServiceProcess.start(variables());
});
afterAll(() => service.stop());

/** Runs `npm run smoke` against the service. The report has a row for each line. */
async function smoke(...args: readonly string[]) {
  const child = spawn(process.execPath, ["--import", "tsx", "src/cli/main.ts", "smoke", ...args], { cwd: PROJECT });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => (output += chunk));
  child.stderr.on("data", (chunk) => (errors += chunk));
  const [code] = await once(child, "close");
  const rows = output
    .split("\n")
    .slice(2)
    .filter((line) => line !== "")
    .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));
  return { code, rows, errors };
}

const here = (...more: readonly string[]) => [
  "--url",
  service.url,
  "--token",
  "caller-token",
  "--seconds",
  "1",
  ...more,
];

/** The example's Worker beside the limiter, bound as its `wrangler.toml` says. */
async function startExample(token: string): Promise<Miniflare> {
  const workerOf = async (folder: string, entry: string): Promise<WorkerOptions> => {
    const { assets: _, ...options } = miniflareWorkerOptions(join(PROJECT, folder, "wrangler.toml"))
      .workerOptions as WorkerOptions;
    const contents = await bundle(join(PROJECT, folder, entry));
    return { ...options, modules: [{ type: "ESModule", path: "worker.js", contents }] } as WorkerOptions;
  };
  const limiter = { ...(await workerOf(".", "src/worker.ts")), name: "exact-limiter" };
  const example = await workerOf("examples/rpc", "worker.ts");
  return new Miniflare({
    cf: false,
    workers: [{ ...example, name: "exact-limiter-rpc", bindings: { SMOKE_TOKEN: token } } as WorkerOptions, limiter],
  });
}

test("measures a service that works, each line beside what is normal, and says what only Cloudflare can show", async () => {
  const { code, rows, errors } = await smoke(...here());
  expect([code, errors]).toEqual([0, expect.not.stringContaining("BROKEN")]);
  expect(rows.map(([, what]) => what?.split(",")[0])).toEqual([
    "a request that asks no object",
    "first touch of a key",
    "the same key again",
    "a session",
    "a message of a session",
    "a ping",
    "a hot key",
    "LimiterRpc",
    "bytes logged",
    "where objects are",
  ]);
  // Five a minute, over HTTP and a session together.
  expect(rows[6]?.[2]).toMatch(/^\d+\/s, p99 \d+ ms, 5 admitted, \d+ denied$/);
  expect(rows.slice(7).map(([state]) => state)).toEqual(["look", "look", "look"]);
  for (const row of rows) expect(row[3]).not.toBe("");
});

test("measures a policy of one's own", async () => {
  const { code, rows } = await smoke(...here("--policy", "burst"));
  expect([code, rows[6]?.[1]]).toEqual([0, "a hot key, 1 s"]);
});

test("calls LimiterRpc by the example's Worker, which answers 401 to others", async () => {
  const example = await startExample("caller-token");
  const other = await startExample("other-token");
  const { code, rows } = await smoke(...here("--rpc-url", (await example.ready).origin));
  expect([code, rows[7]]).toEqual([
    0,
    // A busy machine may be slow.
    [
      expect.stringMatching(/^(ok|slow)$/),
      "LimiterRpc, slowest of consume, check, settle, batch",
      expect.any(String),
      "at most 500 ms",
    ],
  ]);
  const refused = await smoke(...here("--rpc-url", (await other.ready).origin));
  expect([refused.code, refused.rows[7]?.[0], refused.rows[7]?.[2]]).toEqual([1, "BROKEN", '401: "Unauthorized"']);
  await Promise.all([example.dispose(), other.dispose()]);
});

test.each([
  ["a wrong token", ["--token", "wrong"], "401"],
  ["an unknown policy", ["--policy", "nowhere"], "no policy nowhere"],
  ["a service that can't be reached", ["--url", "http://127.0.0.1:2"], "ECONNREFUSED"],
])("ends with 1 for %s", async (_, more, measured) => {
  const { code, rows } = await smoke(...here(...more));
  expect([code, rows.at(-1)?.[0], rows.at(-1)?.[2]]).toEqual([1, "BROKEN", expect.stringContaining(measured)]);
});

test.each([
  [["--seconds", "0"], "error: option '--seconds <number>' argument '0' is invalid. It must be a number above 0."],
  [["--url", "limiter"], 'error: "limiter" is not a URL of a service, such as https://limiter.example.com.'],
  [["--urls", "http://limiter"], "error: unknown option '--urls'\n(Did you mean --url?)"],
])("ends with 2, what is wrong and its usage for %j", async (args, message) => {
  const { code, errors } = await smoke(...args);
  expect([code, errors]).toEqual([2, expect.stringContaining(message)]);
  expect(errors).toContain("Usage: exact-limiter smoke [options]");
});

test("a hot key is broken if it admits more or less than its limits, or if answers fail", () => {
  const policy: Policy = {
    name: "p",
    layers: [
      { by: ["user"], mode: "live", limits: [{ limit: 5, window_seconds: 4 }] },
      { by: ["user"], mode: "shadow", limits: [{ limit: 1, window_seconds: 60 }] },
    ],
  };
  const stateOf = (seconds: number, ...counts: readonly [status: number, count: number][]) => {
    const tally = new Tally();
    for (const [status, count] of counts) for (let i = 0; i < count; i++) tally.count(status);
    tally.times.push(1);
    return judge(policy, tally, seconds).state;
  };
  // Ten seconds are in three windows at most.
  expect(stateOf(10, [200, 15], [429, 985])).toBe("ok");
  expect(stateOf(10, [200, 16], [429, 985])).toBe("BROKEN");
  expect(stateOf(3, [200, 6])).toBe("BROKEN");
  expect(stateOf(3, [200, 4], [429, 996])).toBe("BROKEN");
  // Too few were asked to reach the limit.
  expect(stateOf(3, [200, 4])).toBe("ok");
  expect(stateOf(3, [200, 5], [429, 993], [503, 2])).toBe("slow");
  expect(stateOf(3, [200, 5], [429, 900], [503, 95])).toBe("BROKEN");
  expect(stateOf(3)).toBe("BROKEN");
});
