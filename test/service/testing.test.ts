import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterEach, describe, expect, onTestFinished, test as plainTest, vi } from "vitest";
import { Limiter } from "../../src/client/index.js";
import { startLimiter, test } from "../../src/testing/index.js";

const PROJECT = resolve(import.meta.dirname, "../..");
const request = { policy: "chat", subject: { user: "u_1", ip: "203.0.113.7" } };

describe("a limiter for tests", () => {
  test("admits five, denies the sixth, and admits again once its minute has passed", async ({ limiter }) => {
    for (let i = 0; i < 5; i++) expect((await limiter.client.consume(request)).allowed).toBe(true);
    const sixth = await limiter.client.consume(request);
    expect([sixth.allowed, sixth.headers["Retry-After"]]).toEqual([false, "60"]);
    await limiter.advance({ seconds: 59, ms: 999 });
    expect(await limiter.client.consume(request)).toMatchObject({ allowed: false, retryAfterSeconds: 1 });
    await limiter.advance({ ms: 1 });
    expect((await limiter.client.consume(request)).allowed).toBe(true);
  });

  test("starts every test without counters", async ({ limiter }) => {
    expect((await limiter.client.check(request)).limits.map(({ used }) => used)).toEqual([0, 0, 0]);
  });

  test("has a clock that stands still, can be moved, but not back before a decision", async ({ limiter }) => {
    const start = await limiter.now();
    await limiter.advance({ seconds: 1.5, ms: 250 });
    expect((await limiter.now()).getTime() - start.getTime()).toBe(1_750);
    await limiter.setTime(new Date("2040-01-01T00:00:00.123Z"));
    expect(await limiter.now()).toEqual(new Date("2040-01-01T00:00:00.123Z"));
    await limiter.client.consume(request);
    await expect(limiter.setTime(start)).rejects.toThrow("400");
    await limiter.reset();
    await limiter.setTime(start);
    expect(await limiter.now()).toEqual(start);
  });

  test("has a client whose waits move the clock, and so do those of a client that sleeps by it", async ({
    limiter,
  }) => {
    const start = await limiter.now();
    await limiter.client.consume({ ...request, cost: 5 });
    expect(await limiter.client.consume({ ...request, cost: 5, waitUpToMs: 90_000 })).toMatchObject({ allowed: true });
    const { url, token } = limiter;
    // Another takes the room once.
    let isTaken = false;
    const sleep = async (ms: number) => {
      await limiter.sleep(ms);
      if (!isTaken) await limiter.client.consume({ ...request, cost: 5 });
      isTaken = true;
    };
    const client = new Limiter({ url, token, deadlineMs: 30_000, sleep });
    expect(await client.consume({ ...request, waitUpToMs: 150_000 })).toMatchObject({
      allowed: true,
      limits: [{ used: 1 }, { used: 16 }, { used: 1 }],
    });
    expect(isTaken).toBe(true);
    const passedMs = (await limiter.now()).getTime() - start.getTime();
    expect(passedMs).toBeGreaterThanOrEqual(180_000);
    expect(passedMs).toBeLessThan(181_000);
    client.close();
  });

  test("serves HTTP with its tokens", async ({ limiter }) => {
    const statusFor = async (token: string) =>
      (await fetch(`${limiter.url}/v1/keys/user:u_1`, { headers: { Authorization: `Bearer ${token}` } })).status;
    expect([await statusFor(limiter.token), await statusFor(limiter.adminToken)]).toEqual([403, 200]);
  });

  plainTest("takes variables, and is gone when it is stopped", async () => {
    const limiter = await startLimiter({ variables: { RATE_LIMIT_CHAT_PER_MIN: "1" } });
    expect((await limiter.client.check(request)).limits[0]?.limit).toBe(1);
    await limiter.stop();
    await expect(fetch(`${limiter.url}/healthz`)).rejects.toThrow();
  });

  plainTest("that does not start says why", async () => {
    await expect(startLimiter({ variables: { RATE_LIMIT_CHAT_PER_MIN: "many" } })).rejects.toThrow(
      "RATE_LIMIT_CHAT_PER_MIN",
    );
  });

  describe("with EXACT_LIMITER_COMMAND", () => {
    afterEach(() => vi.unstubAllEnvs());

    plainTest("is what the command starts, and is gone when it is stopped", async () => {
      vi.stubEnv(
        "EXACT_LIMITER_COMMAND",
        `RATE_LIMIT_CHAT_PER_HOUR='7' npm --prefix '${PROJECT}' start -- --test-clock`,
      );
      const limiter = await startLimiter({ variables: { RATE_LIMIT_CHAT_PER_MIN: "1" } });
      expect((await limiter.client.check(request)).limits.map(({ limit }) => limit)).toEqual([1, 7, 30]);
      await limiter.stop();
      await expect(fetch(`${limiter.url}/healthz`)).rejects.toThrow();
    });

    plainTest("that starts none says what the command printed", async () => {
      vi.stubEnv("EXACT_LIMITER_COMMAND", "sh -c 'echo no limiter here; exit 1'");
      await expect(startLimiter()).rejects.toThrow("The service ended before it served:\nno limiter here\n");
    });
  });
});

describe("a limiter that tests share", () => {
  /** Runs a file of tests, and returns its output. */
  async function runTests(source: string): Promise<string> {
    // Within the project, where Vitest and the kit are found.
    const built = resolve(import.meta.dirname, "../../dist");
    mkdirSync(built, { recursive: true });
    const directory = mkdtempSync(join(built, "kit-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    writeFileSync(join(directory, "vitest.config.ts"), `export default { test: { include: ["own.ts"] } };`);
    writeFileSync(
      join(directory, "own.ts"),
      `import { describe, expect } from "vitest";
       import { test } from "../../src/testing/index";
       const request = ${JSON.stringify(request)};
       ${source}`,
    );
    const runner = spawn("npx", ["vitest", "run", "--root", directory, "--no-color"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [runner.stdout, runner.stderr]) stream.on("data", (chunk) => (output += chunk));
    await once(runner, "close");
    return output;
  }

  plainTest("is refused to concurrent tests, whose resets would take each other's counters", async () => {
    const output = await runTests(`
      test.concurrent("concurrent", async ({ limiter }) => void (await limiter.client.consume(request)));
      describe.concurrent("of a suite", () => {
        test("inherited", async ({ limiter }) => void (await limiter.client.consume(request)));
        test.sequential("sequential", async ({ limiter }) => {
          expect((await limiter.client.consume(request)).limits[0]?.used).toBe(1);
        });
      });
      test.concurrent("without it", () => {});`);
    expect(output).toContain("2 failed | 2 passed");
    expect(output).toContain("Error: A concurrent test can't use `limiter`");
  });
});

describe("a limiter for tests ends with its tests:", () => {
  /** Another test run, which starts a limiter and prints its URL. */
  async function startRunner(
    then: string,
    environment: Record<string, string> = {},
  ): Promise<{ runner: ChildProcess; url: string }> {
    const entry = resolve(import.meta.dirname, "../../src/testing/start.ts");
    const script = `const { startLimiter } = await import(${JSON.stringify(entry)});
      const { url, now } = await startLimiter();
      // Until it has printed all: printing to tests that are gone would end it too.
      await now();
      console.log(url);
      ${then}`;
    const runner = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, ...environment },
    });
    const [url] = await once(runner.stdout, "data");
    return { runner, url: String(url).trim() };
  }

  async function ends(url: string): Promise<void> {
    await expect
      .poll(
        () =>
          fetch(`${url}/healthz`).then(
            ({ status }) => status,
            () => "gone",
          ),
        { timeout: 20_000, interval: 100 },
      )
      .toBe("gone");
  }

  const STARTED = [
    ["by itself", {}],
    ["by EXACT_LIMITER_COMMAND", { EXACT_LIMITER_COMMAND: `npm --prefix '${PROJECT}' start -- --test-clock` }],
  ] as const;

  plainTest.each(STARTED)("when they forget to stop it, started %s", async (_, environment) => {
    const { runner, url } = await startRunner("", environment);
    if (runner.exitCode === null) await once(runner, "exit");
    expect(runner.exitCode).toBe(0);
    await ends(url);
  });

  plainTest.each(STARTED)("when they are killed, started %s", async (_, environment) => {
    const { runner, url } = await startRunner("setInterval(() => {}, 1_000);", environment);
    runner.kill("SIGKILL");
    await ends(url);
  });
});
