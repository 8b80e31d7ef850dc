import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { describeToken } from "../src/cli/token/describe";
import { makeToken } from "../src/cli/token/make";
import { readConfig } from "../src/config/config";

const run = promisify(execFile);
const PROJECT = resolve(import.meta.dirname, "..");

const sha256 = (token: string) => createHash("sha256").update(token).digest("hex");

test("a token that is made has 256 random bits, and its line has its digest in its place", () => {
  const until = "2030-01-01T01:00:00+01:00";
  const { token, line } = makeToken({ name: "importer", role: "caller", policies: ["upload", "inline"], until });
  // The characters of a subprotocol.
  expect(token).toMatch(/^lim_[\w-]{43}$/);
  expect(line).toBe(`importer caller policies=upload+inline until=2030-01-01T00:00:00.000Z sha256:${sha256(token)}`);
  expect(makeToken({ name: "importer", role: "caller" }).token).not.toBe(token);
});

test("npm run token prints a token once, and the line that configures it", async () => {
  const { stdout } = await run("npm", ["run", "-s", "token", "--", "--name", "chat-backend", "--role", "caller"], {
    cwd: PROJECT,
  });
  const [token = "", ...others] = stdout.match(/lim_[\w-]{43}/g) ?? [];
  expect(others).toEqual([]);
  expect(stdout).toContain(`  chat-backend caller sha256:${sha256(token)}\n`);
});

test.each([
  [[], "error: required option '--name <name>' not specified\n"],
  [["--name", "a"], "error: required option '--role <role>' not specified\n"],
  [["--name", "a", "--role", "root"], "error: the role must be one of caller, admin, metrics-only\n"],
  [
    ["--name", "A", "--role", "caller"],
    "error: the name must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter\n",
  ],
  [
    ["--name", "a", "--role", "caller", "--untill", "2030"],
    "error: unknown option '--untill'\n(Did you mean --until?)\n",
  ],
])("npm run token with %j says what is wrong, and how it is called", async (args, message) => {
  const failed = await run("node", ["--import", "tsx", "src/cli/main.ts", "token", ...args], { cwd: PROJECT }).then(
    () => undefined,
    ({ stdout, stderr, code }: { stdout: string; stderr: string; code: number }) => ({ stdout, stderr, code }),
  );
  expect(failed).toEqual({ stdout: "", code: 2, stderr: expect.stringContaining(message) });
  expect(failed?.stderr).toContain("\nUsage: exact-limiter token [options]\n");
});

test.each([
  ["a caller", "token a: caller"],
  ["a metrics-only", "token a: metrics-only"],
  ["a caller policies=chat+gone+inline", "token a: caller of chat, gone (not in force), inline"],
  ["a admin until=2030-01-01T00:00:01Z", "token a: admin, until 2030-01-01T00:00:01.000Z"],
  ["a admin until=2030-01-01T00:00:00Z", "token a: admin, ended at 2030-01-01T00:00:00.000Z"],
])("the configured token %j is described as %j", (line, description) => {
  const [token] = readConfig({ LIMITER_TOKEN_DIGESTS: `${line} sha256:${"a".repeat(64)}` }).tokenDigests;
  expect(token && describeToken(token, ["chat"], Date.UTC(2030, 0, 1))).toBe(description);
});

test("npm run check-config describes the tokens, and shows no digest", async () => {
  const env = { ...process.env, LIMITER_TOKEN_DIGESTS: `grafana metrics-only sha256:${"a".repeat(64)}` };
  const { stdout } = await run("npm", ["run", "-s", "check-config"], { cwd: PROJECT, env });
  expect(stdout).toContain("token grafana: metrics-only\n");
  expect(stdout).not.toContain("aaaa");
});
