import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished } from "vitest";
import { type TestLimiter, test } from "../../src/testing/index.js";

const project = resolve(import.meta.dirname, "../..");
const document = readFileSync(join(project, "docs/node.md"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "exact-limiter-node-"));

/** The folder of an application that has installed the package, as it is published, and its frameworks. */
beforeAll(async () => {
  const installed = join(folder, "node_modules/exact-limiter");
  mkdirSync(installed, { recursive: true });
  copyFileSync(join(project, "package.json"), join(installed, "package.json"));
  for (const name of ["express", "express-rate-limit", "hono", "@hono/node-server", "hono-rate-limiter"]) {
    mkdirSync(dirname(join(folder, "node_modules", name)), { recursive: true });
    symlinkSync(join(project, "node_modules", name), join(folder, "node_modules", name));
  }
  const compiler = spawn("npx", ["tsc", "-p", "tsconfig.build.json", "--outDir", join(installed, "dist")], {
    cwd: project,
    stdio: "inherit",
  });
  expect((await once(compiler, "exit"))[0]).toBe(0);
});

afterAll(() => rmSync(folder, { recursive: true }));

/** An application of the document, by the name in its first line. */
function sourceOf(name: string): string {
  const source = document.match(/(?<=```js\n)\/\/ [\s\S]*?(?=```)/g)?.find((code) => code.startsWith(`// ${name}\n`));
  if (source === undefined) throw new Error(`docs/node.md has no ${name}.`);
  return source;
}

/** Starts a process of the application. The result is its URL. */
async function start(source: string, { url, token }: TestLimiter): Promise<string> {
  writeFileSync(join(folder, "application.mjs"), source.replace("http://127.0.0.1:8787", url));
  const port = await freePort();
  const application: ChildProcess = spawn(process.execPath, ["application.mjs"], {
    cwd: folder,
    env: { ...process.env, LIMITER_TOKEN: token, PORT: String(port) },
    stdio: "inherit",
  });
  onTestFinished(() => void application.kill());
  const served = `http://127.0.0.1:${port}`;
  // A connection asks the limiter nothing.
  await expect.poll(() => fetch(`${served}/none`, { method: "OPTIONS" }).then(() => true), WAIT).toBe(true);
  return served;
}

const WAIT = { timeout: 20_000, interval: 50 };

async function freePort(): Promise<number> {
  const server = createServer().listen(0);
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("There is no port.");
  return address.port;
}

const post = async (url: string) => (await fetch(`${url}/chat/message`, { method: "POST" })).status;

describe("an application of docs/node.md denies the sixth request in any of three processes:", () => {
  test.for(["express.mjs", "hono.mjs", "plain.mjs", "express-rate-limit.mjs"])("%s", async (name, { limiter }) => {
    const source = sourceOf(name);
    const processes = await Promise.all([start(source, limiter), start(source, limiter), start(source, limiter)]);
    await limiter.reset();
    const statuses: number[] = [];
    for (const url of [...processes, ...processes]) statuses.push(await post(url));
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);
    for (const url of processes) expect(await post(url)).toBe(429);
    await limiter.advance({ seconds: 60 });
    expect(await post(processes[0])).toBe(200);
  });
});

test("an application of express-rate-limit moves over by one line", async ({ limiter }) => {
  const source = sourceOf("express-rate-limit.mjs");
  const before = source.split("\n").filter((line) => !line.includes("ExactStore"));
  expect(source.split("\n").length - before.length).toBe(2);
  const processes = await Promise.all([start(before.join("\n"), limiter), start(before.join("\n"), limiter)]);
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) for (const url of processes) statuses.push(await post(url));
  // Their memory store counts in each process.
  expect(statuses.slice(0, 6)).toEqual([200, 200, 200, 200, 200, 200]);
});
