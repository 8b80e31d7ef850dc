import { describe, expect, test } from "vitest";
import { CONTAINERS, makeCrashTrace, makeTraces, TRACE_MS, TRACE_NAMES } from "../../bench/accuracy/traces";

const of = (name: (typeof TRACE_NAMES)[number]) => makeTraces(1, [name])[0]?.requests ?? [];

test("the same seed makes the same traces, alone or among others, and another seed makes different ones", () => {
  expect(makeTraces(7)).toEqual(makeTraces(7));
  expect(makeTraces(7, ["tokens"])[0]).toEqual(makeTraces(7).at(-1));
  expect(makeTraces(8)).not.toEqual(makeTraces(7));
});

test.each(TRACE_NAMES)(
  "%s is in order, ends in time, and shares no user, address or message with another trace",
  (name) => {
    const requests = of(name);
    expect(requests.map(({ atMs }) => atMs)).toEqual(requests.map(({ atMs }) => atMs).sort((a, b) => a - b));
    expect(requests[0]?.atMs).toBeGreaterThanOrEqual(0);
    expect(requests.at(-1)?.atMs).toBeLessThan(TRACE_MS);
    const others = TRACE_NAMES.filter((other) => other !== name).flatMap(of);
    for (const what of ["user", "ip", "key"] as const) {
      const own = new Set(requests.map((request) => request[what]));
      expect(others.filter((other) => own.has(other[what]))).toEqual([]);
    }
  },
);

describe("the traces have", () => {
  test("costs above 1, but none above a limit", () => {
    expect([...new Set(of("costs").map(({ cost }) => cost))].sort()).toEqual([1, 2, 3, 4, 5]);
  });

  test("costs by layer, 0 too, but none above a limit", () => {
    const costs = of("tokens").map(({ cost }) => (typeof cost === "number" ? { caller: cost, ip: cost } : cost));
    expect([...new Set(costs.map(({ caller }) => caller))].sort()).toEqual([0, 1, 2, 3]);
    expect([...new Set(costs.map(({ ip }) => ip))].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("at most three retries of a message, after the message", () => {
    const requests = of("retries");
    const first = new Map(requests.filter(({ isRetry }) => !isRetry).map((request) => [request.key, request]));
    const retries = requests.filter(({ isRetry }) => isRetry);
    for (const { key, ...retry } of retries)
      expect(retry).toEqual({ ...first.get(key), key: undefined, isRetry: true, atMs: expect.any(Number) });
    const counts = [...first.keys()].map((key) => retries.filter((retry) => retry.key === key).length);
    expect([...new Set(counts)].sort()).toEqual([0, 1, 2, 3]);
  });

  test("one user's requests at all containers if spread, else at one", () => {
    const containersOf = (name: "spread" | "steady") =>
      new Set(of(name).flatMap(({ user, container }) => (user.endsWith("-u0") ? [container] : []))).size;
    expect(containersOf("spread")).toBe(CONTAINERS);
    expect(containersOf("steady")).toBe(1);
  });

  test("many users on one address", () => {
    expect(new Set(of("nat").map(({ user }) => user)).size).toBe(30);
    expect(new Set(of("nat").map(({ ip }) => ip)).size).toBe(2);
  });

  test("more requests than a limit admits within one window, for the crash", () => {
    const { requests, limits } = makeCrashTrace(1);
    const lastMs = requests.at(-1)?.atMs ?? 0;
    expect(lastMs).toBeLessThan(limits[0]?.windowMs ?? 0);
    expect(requests.filter(({ user }) => user === "crash-u0").length).toBeGreaterThan(2 * (limits[0]?.max ?? 0));
  });
});
