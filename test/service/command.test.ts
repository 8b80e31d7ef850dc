import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { buildCommand } from "../../scripts/build/command";
import { startLimiter, type TestLimiter } from "../../src/testing/index.js";
import { newDirectory } from "./service";

const PROJECT = resolve(import.meta.dirname, "../..");
const subject = { user: "u_1", ip: "203.0.113.7" };

let limiter: TestLimiter;
let built: string;
beforeAll(async () => {
  limiter = await startLimiter();
  mkdirSync(join(PROJECT, "dist"), { recursive: true });
  built = mkdtempSync(join(PROJECT, "dist/command-"));
  await buildCommand(built);
});
beforeEach(() => limiter.reset());
afterAll(async () => {
  rmSync(built, { recursive: true });
  await limiter.stop();
});

interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command of the package, in a folder of its own, against the service and with its admin token. */
function command(
  args: readonly string[],
  environment: Record<string, string> = {},
  cwd = newDirectory(),
): Promise<Ended> {
  const env = { PATH: process.env.PATH, EXACT_LIMITER_URL: limiter.url, EXACT_LIMITER_TOKEN: limiter.adminToken };
  const options = { cwd, env: { ...env, ...environment } };
  return new Promise((resolve) =>
    execFile(process.execPath, [join(built, "main.js"), ...args], options, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stdout, stderr }),
    ),
  );
}

const consume = () => limiter.client.consume({ policy: "chat", subject });

describe("exact-limiter key", () => {
  test("prints the counters of a key, their limits and their last events", async () => {
    await consume();
    await limiter.advance({ seconds: 1 });
    const { id } = await consume();
    expect(await command(["key", "user:u_1", "--events", "1"])).toEqual({
      code: 0,
      stderr: "",
      stdout: `user:u_1 has no override.

chat / caller
  5 per 60 s: 2 used, 3 left, all back in 60 s
  60 per 3600 s: 2 used, 58 left, all back in 3600 s
  2 events, the last 1
    ${(await limiter.now()).toISOString()}  cost 1  ${id}
`,
    });
  });

  test("says that nothing counts for a key that was never seen", async () => {
    const { stdout } = await command(["key", "user:nobody"]);
    expect(stdout).toBe("user:nobody has no override.\nNothing counts for it: no event is in any window.\n");
  });

  test("prints the reply of the service as it is with --json", async () => {
    await consume();
    const { stdout } = await command(["key", "user:u_1", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({ key: "user:u_1", counters: [{ policy: "chat", events_total: 1 }] });
  });

  test("takes keys with any characters", async () => {
    const user = "a/b c?é#%2F";
    await limiter.client.consume({ policy: "chat", subject: { user, ip: subject.ip } });
    expect((await command(["key", `user:${user}`])).stdout).toContain("5 per 60 s: 1 used");
  });
});

describe("exact-limiter ban and lift", () => {
  test("ban a key until an end, and lift the ban", async () => {
    await limiter.setTime(new Date("2040-01-01T00:00:00Z"));
    const line = "user:u_1 is banned until 2040-01-01T01:00:00.000Z: sends spam\n";
    const banned = await command(["ban", "user:u_1", "--for", "1h", "--reason", "sends spam"]);
    expect(banned).toEqual({ code: 0, stderr: "", stdout: line });
    expect((await command(["key", "user:u_1"])).stdout).toContain(line);
    expect(await consume()).toMatchObject({ allowed: false, retryAfterSeconds: 3_600 });
    expect(await command(["lift", "user:u_1"])).toEqual({
      code: 0,
      stderr: "",
      stdout: "user:u_1 has no override.\n",
    });
    expect((await consume()).allowed).toBe(true);
  });

  test.each([
    ["90s", 90],
    ["15m", 900],
    ["7d", 604_800],
  ])("a ban for %s lasts %i seconds", async (duration, seconds) => {
    await command(["ban", "user:u_1", "--for", duration, "--reason", "r"]);
    expect((await consume()).retryAfterSeconds).toBe(seconds);
  });
});

describe("a command that fails ends with 1, and says what to do:", () => {
  test.each([
    [
      "with a wrong token",
      { EXACT_LIMITER_TOKEN: "wrong" },
      "Set EXACT_LIMITER_TOKEN to an admin token of this service.\n",
    ],
    [
      "where no service listens",
      { EXACT_LIMITER_URL: "http://127.0.0.1:2" },
      "No limiter answers at http://127.0.0.1:2 (ECONNREFUSED). Start one with `npx exact-limiter start`, or set EXACT_LIMITER_URL.\n",
    ],
  ])("%s", async (_, environment, message) => {
    const { code, stdout, stderr } = await command(["key", "user:u_1"], environment);
    expect([code, stdout, stderr]).toEqual([1, "", expect.stringContaining(message)]);
    expect(stderr).not.toContain("    at ");
  });

  test("with a caller's token", async () => {
    const { code, stderr } = await command(["lift", "user:u_1"], { EXACT_LIMITER_TOKEN: limiter.token });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/answered 403: .*\nSet EXACT_LIMITER_TOKEN to an admin token/),
    ]);
  });

  test("for a key in another spelling, whose normal form it names", async () => {
    const { code, stderr } = await command(["key", "ip:2001:DB8::1"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("Its normal form is ip:2001:db8::/64\n")]);
  });

  test("for a ban that is too long, with the reason of the service", async () => {
    const { code, stderr } = await command(["ban", "user:u_1", "--for", "367d", "--reason", "r"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("  /expires_in_seconds: must be from 1 to 31622400\n")]);
  });
});

describe("a command that is called wrongly ends with 2, and says how it is called:", () => {
  test.each([
    [["key"], "error: missing required argument 'key'"],
    [["key", "user:u_1", "--events", "-1"], "It must be a whole number."],
    [["ban", "user:u_1", "--reason", "r"], "error: required option '--for <duration>' not specified"],
    [["ban", "user:u_1", "--for", "1h"], "error: required option '--reason <text>' not specified"],
    [
      ["ban", "user:u_1", "--for", "an hour", "--reason", "r"],
      "It must be a whole number and a unit: s, m, h or d, such as 12h.",
    ],
    [["bann"], "error: unknown command 'bann'\n(Did you mean ban?)"],
    [["key", "user:u_1", "--url", "localhost:8787"], '"localhost:8787" is not a URL of a service'],
  ])("%j", async (args, message) => {
    const { code, stdout, stderr } = await command(args);
    expect([code, stdout, stderr]).toEqual([2, "", expect.stringContaining(message)]);
    expect(stderr).toContain("Usage: exact-limiter");
  });

  test.each([
    [{ EXACT_LIMITER_TOKEN: "se cret" }, "The token is empty, or has other characters than visible ASCII."],
    [{ EXACT_LIMITER_TOKEN: "se\ncret" }, "The token is empty, or has other characters than visible ASCII."],
    [{ EXACT_LIMITER_TOKEN: "se€cret" }, "The token is empty, or has other characters than visible ASCII."],
    [{ EXACT_LIMITER_URL: "http://admin:cret@127.0.0.1" }, "The URL of a service has no user"],
    [{ EXACT_LIMITER_URL: "http://127.0.0.1/?key=cret" }, "The URL of a service has no user"],
  ])("%j, without its secret", async (environment, message) => {
    for (const args of [["key", "user:u_1"], ["smoke"]]) {
      const { code, stdout, stderr } = await command(args, environment);
      expect([code, stdout, stderr]).toEqual([2, "", expect.stringContaining(message)]);
      expect(stderr).not.toContain("cret");
    }
  });
});

describe("a command about a key fails, and says so, where another service answers", () => {
  test.each([
    ["a page", 200, "text/html", "<html>"],
    ["no JSON", 400, "application/json", "{"],
    ["other JSON", 200, "application/json", "{}"],
    ["a problem of another kind", 404, "application/json", '{"error": "Not found"}'],
  ])("%s", async (_, status, type, body) => {
    const server = createServer((_, response) => response.writeHead(status, { "Content-Type": type }).end(body));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const why = `${url} answered ${status}, and not as a limiter does.`;
    for (const args of [
      ["key", "user:u_1"],
      ["ban", "user:u_1", "--for", "1h", "--reason", "r"],
      ["lift", "user:u_1"],
    ]) {
      const { code, stdout, stderr } = await command(args, { EXACT_LIMITER_URL: url });
      expect([code, stdout, stderr]).toEqual([1, "", expect.stringContaining(why)]);
      expect(stderr).not.toContain("    at ");
    }
  });
});

describe("without EXACT_LIMITER_TOKEN", () => {
  const unset = { EXACT_LIMITER_TOKEN: "" };

  /** A folder with the tokens of the service, as `exact-limiter start` leaves it. */
  function folderWithTokens(): string {
    const folder = newDirectory();
    const { port } = new URL(limiter.url);
    writeFileSync(join(folder, ".dev.vars"), `LIMITER_ADMIN_TOKENS=${limiter.adminToken}\nPORT=${port}\n`);
    return folder;
  }

  test("a command finds the service and the tokens of its directory", async () => {
    const found = await command(["key", "user:u_1"], { ...unset, EXACT_LIMITER_URL: "" }, folderWithTokens());
    expect([found.code, found.stdout]).toEqual([0, expect.stringContaining("user:u_1 has no override.")]);
  });

  test("a command sends the tokens of its directory to no other machine", async () => {
    const { code, stderr } = await command(
      ["key", "user:u_1"],
      { ...unset, EXACT_LIMITER_URL: "https://limiter.example.com" },
      folderWithTokens(),
    );
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining(
        "There is no token for https://limiter.example.com. Set EXACT_LIMITER_TOKEN to its admin token.",
      ),
    ]);
  });
});

test.each([[], ["start"], ["check-config"], ["token"], ["key"], ["ban"], ["lift"], ["smoke"]].map((args) => [args]))(
  "exact-limiter %j --help explains itself",
  async (args) => {
    const { code, stdout, stderr } = await command([...args, "--help"]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(["Usage: exact-limiter", ...args].join(" "));
  },
);
