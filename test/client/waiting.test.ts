import { describe, expect, onTestFinished, test, vi } from "vitest";
import { pause } from "../../src/client/attempts.js";
import {
  type Decision,
  InvalidRequestError,
  Limiter,
  type LimiterOptions,
  type Sleep,
} from "../../src/client/index.js";
import { Wait } from "../../src/client/waiting.js";
import {
  ADMITTED,
  answers,
  type Behaviour,
  closedPort,
  denies,
  problem,
  resets,
  startServer,
  TRANSPORTS,
} from "./server";

const request = { policy: "chat", subject: { user: "u" } };
const admits = answers(200, ADMITTED);
const JITTER_MS = 250;

/** A client whose pauses take no time. */
function limiterAt(url: string, options: Partial<LimiterOptions> = {}) {
  const pausesMs: number[] = [];
  const sleep = async (ms: number) => void pausesMs.push(ms);
  return { limiter: new Limiter({ url, token: "t", deadlineMs: 30_000, log: () => {}, sleep, ...options }), pausesMs };
}

function expectPauses(pausesMs: readonly number[], ...seconds: number[]): void {
  expect(pausesMs).toHaveLength(seconds.length);
  for (const [i, pauseMs] of pausesMs.entries()) {
    expect(pauseMs).toBeGreaterThanOrEqual(1_000 * (seconds[i] ?? 0));
    expect(pauseMs).toBeLessThanOrEqual(1_000 * (seconds[i] ?? 0) + JITTER_MS);
  }
}

describe.each(TRANSPORTS)("a consume over %s that may wait for room", (transport) => {
  async function waiting(waitUpToMs: number, ...behaviours: [Behaviour, ...Behaviour[]]) {
    const { url, received } = await startServer(...behaviours);
    const { limiter, pausesMs } = limiterAt(url, { transport });
    const decision = await limiter.consume({ ...request, waitUpToMs });
    return { decision, received, pausesMs };
  }

  test("waits as long as the denial says and tries again with the same key, and again if the room was taken", async () => {
    const { decision, received, pausesMs } = await waiting(60_000, resets, denies(7), denies(1), denies(30), admits);
    expect(decision).toMatchObject({ allowed: true, degraded: false });
    expectPauses(pausesMs, 7, 1, 30);
    expect(new Set(received.map(({ key }) => key)).size).toBe(1);
    expect(received.map(({ attempt }) => attempt)).toEqual(["1", "2", "3", "4", "5"]);
  });

  test("does not wait if it fits", async () => {
    const { decision, pausesMs } = await waiting(60_000, admits);
    expect([decision.allowed, pausesMs]).toEqual([true, []]);
  });

  test("is denied at once if the room comes too late", async () => {
    const { decision, received, pausesMs } = await waiting(6_999, denies(7), admits);
    expect(decision).toMatchObject({ allowed: false, degraded: false, retryAfterSeconds: 7 });
    expect([received.length, pausesMs]).toEqual([1, []]);
  });

  test("waits for at most that time, all pauses together", async () => {
    const { decision, received, pausesMs } = await waiting(20_900, denies(7));
    expect(decision).toMatchObject({ allowed: false, retryAfterSeconds: 7 });
    expectPauses(pausesMs, 7, 7);
    expect(received).toHaveLength(3);
  });

  test("is answered at once under a ban, but not for a ban of a layer in shadow", async () => {
    expect((await waiting(60_000, denies(7, { override: "ban" }))).pausesMs).toEqual([]);
    expectPauses((await waiting(10_000, denies(7, { override: "ban", shadow: true }), admits)).pausesMs, 7);
  });

  test("waits under a ban of a layer at 0, which denies nothing", async () => {
    const behind = (cost: object) => denies(7, { override: "ban" }, { cost });
    expectPauses((await waiting(10_000, behind({ caller: 0, ip: 1 }), admits)).pausesMs, 7);
    expect((await waiting(10_000, behind({ caller: 1, ip: 0 }), admits)).pausesMs).toEqual([]);
  });

  test("leaves an outage to onError at once, also after a pause", async () => {
    const { limiter, pausesMs } = limiterAt(await closedPort(), { transport, deadlineMs: 100 });
    const waitUpToMs = 60_000;
    for (let i = 0; i < 4; i++)
      expect(await limiter.consume({ ...request, waitUpToMs })).toMatchObject({ degraded: true });
    expect(pausesMs).toEqual([]);
    const { url } = await startServer(denies(7), answers(503, "", { "Retry-After": "60" }));
    const other = limiterAt(url, { transport });
    expect(await other.limiter.consume({ ...request, waitUpToMs })).toMatchObject({ degraded: true });
    expectPauses(other.pausesMs, 7);
  });

  test("throws at once if the service refuses it", async () => {
    const refused = waiting(60_000, problem(422, "A cost of 6 can never be admitted."), admits);
    await expect(refused).rejects.toBeInstanceOf(InvalidRequestError);
  });

  test("has the caller's key in every try", async () => {
    const { url, received } = await startServer(denies(7), admits);
    await limiterAt(url, { transport }).limiter.consume({ ...request, idempotencyKey: "mine", waitUpToMs: 60_000 });
    expect(received.map(({ key, attempt }) => [key, attempt])).toEqual(Array(2).fill(['"mine"', undefined]));
  });

  test.each<[string, Sleep]>([
    ["a timer", pause],
    ["a sleep that ignores its signal", () => new Promise(() => {})],
    ["a sleep that rejects", (_, signal) => new Promise((_, reject) => signal?.addEventListener("abort", reject))],
  ])("sends and charges nothing more if it is cancelled while it waits by %s", async (_, sleep) => {
    const { url, received } = await startServer(denies(7), admits);
    const controller = new AbortController();
    const { limiter } = limiterAt(url, {
      transport,
      sleep: (ms, signal) => {
        queueMicrotask(() => controller.abort("enough"));
        return sleep(ms, signal);
      },
    });
    const consumed = limiter.consume({ ...request, waitUpToMs: 60_000, signal: controller.signal });
    await expect(consumed).rejects.toBe("enough");
    await limiter.check(request);
    await limiter.check(request);
    expect(received.map(({ path }) => path)).toEqual(["/v1/consume", "/v1/check", "/v1/check"]);
  });
});

test("gives nothing back if it is cancelled after a pause, before it is sent again", async () => {
  const { url, received } = await startServer(denies(7), admits);
  const controller = new AbortController();
  const { limiter } = limiterAt(url, {
    transport: "session",
    // Calls are sent after this turn.
    sleep: async () => void setImmediate(() => controller.abort("enough")),
  });
  const consumed = limiter.consume({ ...request, waitUpToMs: 60_000, signal: controller.signal });
  await expect(consumed).rejects.toBe("enough");
  await limiter.check(request);
  await limiter.check(request);
  expect(received.map(({ path }) => path)).toEqual(["/v1/consume", "/v1/check", "/v1/check"]);
});

test("waits in real time by default", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const denial = { ...ADMITTED, allowed: false, id: undefined, retry_after_seconds: 7 };
  let calls = 0;
  const fetch = async () => (++calls === 1 ? Response.json(denial, { status: 429 }) : Response.json(ADMITTED));
  const limiter = new Limiter({ url: "http://limiter.test", token: "t", fetch });
  const consumed = limiter.consume({ ...request, waitUpToMs: 10_000 });
  await vi.advanceTimersByTimeAsync(6_999);
  expect(calls).toBe(1);
  await vi.advanceTimersByTimeAsync(1 + JITTER_MS);
  expect(calls).toBe(2);
  expect(await consumed).toMatchObject({ allowed: true });
});

test("the time that a try takes counts too", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const wait = new Wait(10_000);
  const denial = { allowed: false, retryAfterSeconds: 7, degraded: false, limits: [] as const } as Partial<Decision>;
  vi.advanceTimersByTime(3_001);
  expect(wait.nextPauseMs(denial as Decision)).toBeUndefined();
});

test("many that wait for the same room come at different times, and none after its wait", () => {
  const denial = { allowed: false, retryAfterSeconds: 7, degraded: false, limits: [] as const } as Partial<Decision>;
  const pausesMs = Array.from({ length: 50 }, () => new Wait(7_100).nextPauseMs(denial as Decision) ?? 0);
  expect(new Set(pausesMs).size).toBeGreaterThan(10);
  expect(Math.min(...pausesMs)).toBeGreaterThanOrEqual(7_000);
  expect(Math.max(...pausesMs)).toBeLessThanOrEqual(7_100);
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, "5" as unknown as number])(
  "refuses to wait for up to %s ms",
  async (waitUpToMs) => {
    const { limiter } = limiterAt("http://limiter.test");
    await expect(limiter.consume({ ...request, waitUpToMs })).rejects.toThrow(RangeError);
  },
);
