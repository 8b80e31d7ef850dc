import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Limiter } from "../../src/client/index.js";
import { ADMITTED } from "./server";

const request = { policy: "chat", subject: { user: "u" } };

// A file of its own: it counts the timers of its whole process, and the clients of other tests still probe.
describe("in an outage, on a clock that the test moves,", () => {
  const HOUR_MS = 3_600_000;

  /** A client in an outage: a few calls of its fetch have failed. */
  async function inOutage() {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const calledAtMs: number[] = [];
    const paths: string[] = [];
    let isOver = false;
    /** The service answers, but not about the subject of the calls. */
    let isOverForOthers = false;
    const fetch = async (url: string) => {
      const { pathname } = new URL(url);
      calledAtMs.push(performance.now());
      paths.push(pathname);
      const isNeutral = pathname === "/v1/policies";
      if (isNeutral && (isOver || isOverForOthers)) return Response.json({ policies: [{ name: "chat" }] });
      if (!isOver) throw new Error("nobody there");
      return Response.json(ADMITTED);
    };
    // So short that a call is a single attempt.
    const limiter = new Limiter({
      url: "http://limiter.test",
      token: "t",
      deadlineMs: 20,
      transport: "http",
      fetch,
      log: () => {},
    });
    for (let i = 0; i < 3; i++) await limiter.consume(request);
    expect(calledAtMs.splice(0)).toHaveLength(3);
    const isDegraded = async () => (await limiter.consume(request)).degraded;
    const end = () => {
      isOver = true;
    };
    const endForOthers = () => {
      isOverForOthers = true;
    };
    paths.length = 0;
    return { limiter, calledAtMs, paths, isDegraded, end, endForOthers };
  }

  test("probes become rarer, but come every few seconds while there are calls", async () => {
    const { calledAtMs, isDegraded } = await inOutage();
    for (let i = 0; i < 60; i++) {
      await vi.advanceTimersByTimeAsync(1_000);
      expect(await isDegraded()).toBe(true);
    }
    const pausesMs = calledAtMs.map((atMs, i) => atMs - (calledAtMs[i - 1] ?? 0));
    expect(calledAtMs.length).toBeGreaterThan(8);
    expect(calledAtMs.length).toBeLessThan(30);
    expect(pausesMs[1]).toBeLessThan(1_000);
    expect(Math.max(...pausesMs)).toBeLessThan(8_000);
  });

  test("every other probe asks about no subject, so that one without answers keeps nobody out", async () => {
    const { calledAtMs, paths, isDegraded, endForOthers } = await inOutage();
    await vi.advanceTimersByTimeAsync(10_000);
    const [first, second, third] = paths;
    expect([first, second, third]).toEqual(["/v1/check", "/v1/policies", "/v1/check"]);
    endForOthers();
    await vi.advanceTimersByTimeAsync(20_000);
    expect(paths.at(-1)).toBe("/v1/policies");
    paths.length = 0;
    // The calls are sent again, and still not answered.
    for (let i = 0; i < 3; i++) expect(await isDegraded()).toBe(true);
    expect(paths).toEqual(Array(3).fill("/v1/consume"));
    // The probes have not begun again with short pauses.
    const openedAtMs = performance.now();
    const before = calledAtMs.length;
    await vi.advanceTimersByTimeAsync(20_000);
    expect((calledAtMs[before] ?? 0) - openedAtMs).toBeGreaterThan(1_000);
  });

  test("a closed client stops probing, and its next call probes again", async () => {
    const { limiter, calledAtMs, isDegraded, end } = await inOutage();
    await isDegraded();
    limiter.close();
    await vi.advanceTimersByTimeAsync(30_000);
    expect([calledAtMs.length, vi.getTimerCount()]).toEqual([0, 0]);
    end();
    expect(await isDegraded()).toBe(true);
    await vi.advanceTimersByTimeAsync(0);
    expect(await isDegraded()).toBe(false);
  });

  test("an idle client stops probing, and its next call probes again", async () => {
    const { calledAtMs, isDegraded, end } = await inOutage();
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    const before = calledAtMs.length;
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    expect(calledAtMs).toHaveLength(before);
    expect(vi.getTimerCount()).toBe(0);
    end();
    expect(await isDegraded()).toBe(true);
    expect(calledAtMs).toHaveLength(before + 1);
    await vi.advanceTimersByTimeAsync(0);
    expect(await isDegraded()).toBe(false);
  });

  test("a call probes again if the runtime has dropped the timer together with its request", async () => {
    const { calledAtMs, isDegraded, end } = await inOutage();
    vi.clearAllTimers();
    end();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(calledAtMs).toHaveLength(0);
    expect(await isDegraded()).toBe(true);
    expect(calledAtMs).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(0);
    expect(await isDegraded()).toBe(false);
  });
});
