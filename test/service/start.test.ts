import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { Limiter } from "../../src/client/index.js";
import type { Stats } from "../../src/request/admin-schema";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, json, newSubject } from "../behaviour/target";
import { newDirectory, targetOf, variables } from "./service";

const PROJECT = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);

/** A fresh checkout, so that generated tokens do not change this checkout. */
function freshCheckout(): string {
  const project = newDirectory();
  for (const name of ["package.json", "wrangler.toml", "tsconfig.json", "src", "scripts", "console"])
    cpSync(join(PROJECT, name), join(project, name), { recursive: true });
  symlinkSync(join(PROJECT, "node_modules"), join(project, "node_modules"));
  return project;
}

const curlOf = (service: ServiceProcess) => /curl .*/.exec(service.output)?.[0] ?? "";

describe("npm start on a fresh checkout", () => {
  test("generates tokens once, keeps them, prints a curl command that works, and nothing else", async () => {
    const project = freshCheckout();
    const first = await ServiceProcess.start({ LIMITER_DATA_DIR: newDirectory() }, { project });
    const { stdout } = await run("sh", ["-c", `${curlOf(first)} -s`]);
    expect(stdout).toContain("200 OK");
    expect(stdout).toContain('"allowed":true');
    const kept = readFileSync(join(project, ".dev.vars"), "utf8");
    expect(kept).toMatch(/^LIMITER_TOKENS=\S{32}\nLIMITER_ADMIN_TOKENS=\S{32}\n$/);
    await first.stop();
    // Without npm's own lines.
    expect(first.output.split("\n").filter((line) => line !== "" && !/^(>|npm )/.test(line))).toEqual([
      expect.stringMatching(/^The limiter serves on /),
      expect.stringMatching(/^curl /),
      `The console is at ${first.url}/console. Its admin token is LIMITER_ADMIN_TOKENS in ${join(project, ".dev.vars")}.`,
    ]);

    const second = await ServiceProcess.start({ LIMITER_DATA_DIR: newDirectory() }, { project });
    expect(readFileSync(join(project, ".dev.vars"), "utf8")).toBe(kept);
    expect(curlOf(second)).toContain(/LIMITER_TOKENS=(.*)/.exec(kept)?.[1]);
    await second.stop();
  });

  test.each([
    ["LIMITER_TOKENS", { LIMITER_TOKENS: " secret-caller , secret-caller-2", LIMITER_ADMIN_TOKENS: "secret-admin" }],
    ["LIMITER_ADMIN_TOKENS", { LIMITER_TOKENS: "", LIMITER_ADMIN_TOKENS: "secret-admin,secret-admin-2" }],
  ])("prints no token that it did not generate: the curl command uses %s from the shell", async (name, tokens) => {
    const service = await ServiceProcess.start(variables(tokens));
    expect(service.output).not.toContain("secret");
    expect(curlOf(service)).toContain(name);
    const { stdout } = await run("sh", ["-c", `${curlOf(service)} -s`], { env: { ...process.env, ...tokens } });
    expect(stdout).toContain("200 OK");
    await service.stop();
  });

  test("takes every variable from .dev.vars too, and makes its tokens unreadable for others", async () => {
    const project = freshCheckout();
    const directory = newDirectory();
    const path = join(project, ".dev.vars");
    const lines = [
      "HOST=127.0.0.2",
      `LIMITER_DATA_DIR=${directory}`,
      "LIMITER_TOKENS=of-mine",
      "RATE_LIMIT_CHAT_PER_MIN=3",
    ];
    writeFileSync(path, lines.join("\n"));
    chmodSync(path, 0o644);
    const service = await ServiceProcess.start({}, { project });
    expect(new URL(service.url).hostname).toBe("127.0.0.2");
    expect(existsSync(join(directory, "lock"))).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const limiter = new Limiter({ url: service.url, token: "of-mine", deadlineMs: 30_000 });
    expect((await limiter.check({ policy: "chat", subject: newSubject() })).limits[0]?.limit).toBe(3);
    await service.stop();
  });

  test("warns about unknown variables with a suggestion, and serves", async () => {
    const service = await ServiceProcess.start(
      variables({ RATE_LIMIT_CHAT_PER_MINUTE: "3", LIMITER_OBJECTS: "x", LIMITER_TOKEN: "" }),
    );
    expect((await new Caller(targetOf(service)).check("chat", newSubject())).limits[0]?.limit).toBe(5);
    await service.stop();
    expect(service.output.match(/Unknown variable .*/g)).toEqual([
      "Unknown variable RATE_LIMIT_CHAT_PER_MINUTE. Did you mean RATE_LIMIT_CHAT_PER_MIN?",
    ]);
    expect(service.output).toContain("Its admin token is LIMITER_ADMIN_TOKENS in the environment.");
  });

  test("a variable of the environment overrides wrangler.toml, unless it is empty", async () => {
    const service = await ServiceProcess.start(
      variables({ RATE_LIMIT_CHAT_PER_MIN: "3", RATE_LIMIT_CHAT_PER_HOUR: "" }),
    );
    const { limits } = await new Caller(targetOf(service)).check("chat", newSubject());
    expect(limits.map(({ limit }) => limit)).toEqual([3, 60, 30]);
    await service.stop();
  });
});

test("npm start says that it ignores a jurisdiction, and decides", async () => {
  const service = await ServiceProcess.start(variables({ LIMITER_JURISDICTION: "eu" }));
  expect(service.output).toContain("LIMITER_JURISDICTION is ignored: all data stays on this machine.\n");
  expect((await new Caller(targetOf(service)).consume("chat", newSubject())).allowed).toBe(true);
  await service.stop();
});

describe("npm run check-config", () => {
  const checkConfig = (more: Record<string, string>) =>
    run(process.execPath, ["--import", "tsx", "scripts/check-config.ts"], {
      cwd: PROJECT,
      env: { ...process.env, ...more },
    });

  test("prints the limits in force, and warns about unknown variables", async () => {
    const { stdout, stderr } = await checkConfig({ RATE_LIMIT_CHAT_PER_MINUTE: "3", LIMITER_PLACEMENT: "shards:8" });
    expect(stdout).toBe(
      "chat / caller, by user, else ip: 5 per 60 s, 60 per 3600 s\nchat / ip, by ip: 30 per 60 s\nAll keys share 8 objects.\n",
    );
    expect(stderr).toBe("Unknown variable RATE_LIMIT_CHAT_PER_MINUTE. Did you mean RATE_LIMIT_CHAT_PER_MIN?\n");
  });

  test("prints where the keys of each attribute are placed, and warns about an attribute that no layer counts by", async () => {
    const { stdout, stderr } = await checkConfig({ LIMITER_PLACEMENT: "ip=shards:8,usr=key,shards:2" });
    expect(stdout).toContain(
      "\nKeys of ip share 8 objects.\nKeys of usr have an object each.\nAll other keys share 2 objects.\n",
    );
    expect(stderr).toBe("LIMITER_PLACEMENT names usr, which no layer counts by.\n");
  });

  test("refuses a wrong configuration, and lists its mistakes", async () => {
    await expect(checkConfig({ RATE_LIMIT_CHAT_PER_MIN: "0", RATE_LIMIT_INLINE: "yes" })).rejects.toMatchObject({
      code: 1,
      stderr:
        "The configuration is wrong:\n  RATE_LIMIT_CHAT_PER_MIN: must be a whole number from 1 to 1000000000\n  RATE_LIMIT_INLINE: must be 0 or 1\n",
    });
  });
});

describe("npm start refuses to start, and says what to do", () => {
  test("with a wrong configuration, whose mistakes it lists", async () => {
    const { code, output } = await ServiceProcess.failing(
      variables({ RATE_LIMIT_CHAT_PER_MIN: "0", RATE_LIMIT_POLICIES: "{", LIMITER_PLACEMENT: "here" }),
    );
    expect(code).not.toBe(0);
    for (const name of ["RATE_LIMIT_CHAT_PER_MIN", "RATE_LIMIT_POLICIES", "LIMITER_PLACEMENT"])
      expect(output).toContain(name);
    expect(output).not.toContain("    at ");
  });

  test("on a port that is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    const { code, output } = await ServiceProcess.failing(variables({ PORT: String(port) }));
    other.close();
    expect([code, output]).toEqual([1, expect.stringContaining(`127.0.0.1:${port} is taken`)]);
  });

  test("with an unknown option", async () => {
    const start = run(process.execPath, ["--import", "tsx", "src/local/start.ts", "--clock"], { cwd: PROJECT });
    await expect(start).rejects.toMatchObject({
      code: 1,
      stderr: "Unknown arguments: --clock. The only option is --test-clock: npm start -- --test-clock\n",
    });
  });

  test("on an invalid port", async () => {
    const { code, output } = await ServiceProcess.failing(variables({ PORT: "70000" }));
    expect([code, output]).toEqual([1, expect.stringContaining("PORT=70000 is not a port")]);
  });

  test.each(["/sys", "/dev/null/data"])("on the data directory %s, which can't be written to", async (directory) => {
    const { code, output } = await ServiceProcess.failing(variables({ LIMITER_DATA_DIR: directory }));
    expect([code, output]).toEqual([1, expect.stringContaining(`${directory} can't be used (`)]);
    expect(output).not.toContain("    at ");
  });

  test("on a data directory that another service uses", async () => {
    const shared = variables();
    const first = await ServiceProcess.start(shared);
    const { code, output } = await ServiceProcess.failing(shared);
    expect([code, output]).toEqual([1, expect.stringContaining("is in use by another service")]);
    await first.stop();
    const third = await ServiceProcess.start(shared);
    await third.stop();
  });
});

describe("npm start ends", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("cleanly on %s, after the requests in flight", async (signal) => {
    const shared = variables();
    const service = await ServiceProcess.start(shared);
    const caller = new Caller(targetOf(service));
    const subject = { user: newSubject().user };
    const inFlight = Array.from({ length: 50 }, () => caller.consume("burst", subject));
    await inFlight[0];
    const stopped = service.stop(signal);
    const admitted = (await Promise.allSettled(inFlight)).filter(({ status }) => status === "fulfilled").length;
    await stopped;
    await expect(fetch(`${service.url}/healthz`)).rejects.toThrow();

    const again = await ServiceProcess.start(shared);
    expect(await new Caller(targetOf(again)).used("burst", subject)).toEqual([admitted]);
    await again.stop();
  });

  test.each(["SIGTERM", "SIGINT"] as const)("on %s, after writing all counts", async (signal) => {
    const shared = variables({ RATE_LIMIT_CHAT_PER_MIN: "2" });
    const denials = async (service: ServiceProcess) => {
      const response = await new Caller(targetOf(service)).admin("/v1/stats");
      const { minutes, denied_keys: keys } = await json<Stats>(response);
      const counts = minutes.flatMap(({ counts }) => counts).filter(({ layer }) => layer === null);
      const of = (name: string) =>
        counts.filter(({ outcome }) => outcome === name).reduce((n, { count }) => n + count, 0);
      return [of("allowed"), of("denied") + of("denied_at_edge"), keys.map(({ count }) => count)];
    };
    const subject = newSubject();
    const consume = async (service: ServiceProcess, times: number) => {
      for (let i = 0; i < times; i++) await new Caller(targetOf(service)).consume("chat", subject);
    };
    const service = await ServiceProcess.start(shared);
    await consume(service, 3);
    expect(await denials(service)).toEqual([2, 1, [1]]);
    // Sent to the stats object but not written, then counted but not sent.
    await consume(service, 2);
    await service.stop(signal);
    const again = await ServiceProcess.start(shared);
    expect(await denials(again)).toEqual([2, 3, [3]]);
    await again.stop();
  });

  test("on SIGTERM under load, and has counted every reply", async () => {
    const shared = variables();
    const service = await ServiceProcess.start(shared);
    let answered = 0;
    const refusals = new Set<string>();
    const loop = async () => {
      for (;;) {
        const response = await service.fetch("/v1/consume", {
          method: "POST",
          headers: { Authorization: "Bearer caller-token", "Content-Type": "application/json" },
          body: JSON.stringify({ policy: "chat", subject: newSubject() }),
        });
        if (response.status === 200) answered += 1;
        else refusals.add(`${response.status}, Retry-After: ${response.headers.get("Retry-After")}`);
        await response.body?.cancel();
      }
    };
    const load = Promise.allSettled(Array.from({ length: 8 }, loop));
    await expect.poll(() => answered, { timeout: 30_000 }).toBeGreaterThan(100);
    await service.stop();
    await load;
    expect([...refusals].filter((refusal) => refusal !== "503, Retry-After: 1")).toEqual([]);
    const again = await ServiceProcess.start(shared);
    const { minutes } = await json<Stats>(await new Caller(targetOf(again)).admin("/v1/stats"));
    const counts = minutes.flatMap(({ counts }) => counts).filter(({ layer }) => layer === null);
    expect(counts.reduce((sum, { count }) => sum + count, 0)).toBe(answered);
    await again.stop();
  });

  test.each([
    ["every process", (service: ServiceProcess) => service.killAll()],
    ["the service itself, its runtime left behind,", (service: ServiceProcess) => service.killOwnProcess()],
    ["npm alone", (service: ServiceProcess) => service.stop("SIGKILL").then(() => undefined)],
  ])("by SIGKILL of %s at any moment, and loses nothing that was answered", async (_, kill) => {
    const shared = variables({
      RATE_LIMIT_POLICIES: '{"burst":{"layers":[{"name":"caller","by":["user"],"limits":["1000000/minute"]}]}}',
    });
    const subject = { user: newSubject().user };
    let answered = 0;
    for (let round = 0; round < 3; round++) {
      const service = await ServiceProcess.start(shared);
      const caller = new Caller(targetOf(service));
      let killed: Promise<void> | undefined;
      const load = Array.from({ length: 20 }, async () => {
        for (let i = 0; ; i++) {
          const { allowed } = await caller.consume("burst", subject);
          // A process whose parent has died stops, and refuses new requests.
          if (allowed) answered += 1;
          if (i === 5) killed ??= kill(service);
        }
      });
      await Promise.allSettled(load);
      await killed;
    }
    const service = await ServiceProcess.start(shared);
    const [used = 0] = await new Caller(targetOf(service)).used("burst", subject);
    // More may be recorded than answered: requests in flight when the process died.
    expect(used).toBeGreaterThanOrEqual(answered);
    expect(used).toBeLessThanOrEqual(answered + 3 * 20);
    await service.stop();
  });

  test("a limit that was used up before a SIGKILL is used up after it", async () => {
    const shared = variables();
    const subject = newSubject();
    const before = await ServiceProcess.start(shared);
    for (let i = 0; i < 5; i++)
      expect((await new Caller(targetOf(before)).consume("chat", subject)).allowed).toBe(true);
    await before.killAll();
    const after = await ServiceProcess.start(shared);
    expect((await new Caller(targetOf(after)).consume("chat", subject)).allowed).toBe(false);
    expect((await new Caller(targetOf(after)).key(`user:${subject.user}`)).counters[0]?.events_total).toBe(5);
    await after.stop();
  });

  test("and releases the lock of the data directory", async () => {
    const shared = variables();
    const service = await ServiceProcess.start(shared);
    expect(existsSync(join(shared.LIMITER_DATA_DIR as string, "lock"))).toBe(true);
    await service.killAll();
    await (await ServiceProcess.start(shared)).stop();
  });
});
