import { describe, expect, test } from "vitest";
import { admittedIn, eventsOf, largestCostOf, limitOf, longest, waitOf, waitOfCounter } from "../../console/counters";
import type { CounterState, LayerState, Override } from "../../console/wire";
import { parseLimit } from "../../src/core/limit";

const NOW_MS = Date.parse("2026-11-24T20:00:00.000Z");
const instant = (inMs: number) => new Date(NOW_MS + inMs).toISOString();

/** A counter with events of cost 1 at these ages, the newest first. */
function counterOf(agesMs: readonly number[], more: Partial<CounterState> = {}): CounterState {
  const events = agesMs.map((ageMs, i) => ({ id: `e${i}`, at: instant(-ageMs), cost: 1 }));
  const limits = [{ limit: 2, window_seconds: 60, used: 0, remaining: 0, reset_seconds: 0 }];
  return { policy: "chat", layer: "caller", limits, events_total: events.length, events, ...more };
}

function overrideOf(kind: Override["kind"], endsInMs: number, more: Partial<Override> = {}): Override {
  return { kind, reason: "a reason", expires_at: instant(endsInMs), ...more };
}

const TWO_A_MINUTE = parseLimit("2/minute");

test("a limit is read as a limit on costs or as a concurrent limit", () => {
  expect(limitOf({ limit: 2, window_seconds: 60 })).toEqual(TWO_A_MINUTE);
  expect(limitOf({ limit: 2, window_seconds: 60, concurrent: true })).toEqual(parseLimit("2 concurrent per minute"));
});

describe("the wait of a cost for a limit", () => {
  test("is 0 as long as the sum is allowed", () => {
    expect(waitOf(counterOf([500]), TWO_A_MINUTE, 1, NOW_MS)).toEqual({ kind: "in", ms: 0 });
  });

  test("ends to the millisecond when enough events have left", () => {
    const counter = counterOf([500, 20_000]);
    expect(waitOf(counter, TWO_A_MINUTE, 1, NOW_MS)).toEqual({ kind: "in", ms: 40_000 });
    expect(waitOf(counter, TWO_A_MINUTE, 2, NOW_MS)).toEqual({ kind: "in", ms: 59_500 });
    expect(waitOf(counter, TWO_A_MINUTE, 1, NOW_MS + 39_999)).toEqual({ kind: "in", ms: 1 });
    expect(waitOf(counter, TWO_A_MINUTE, 1, NOW_MS + 40_000)).toEqual({ kind: "in", ms: 0 });
  });

  test("is endless for a cost above the limit", () => {
    expect(waitOf(counterOf([]), TWO_A_MINUTE, 2, NOW_MS)).toEqual({ kind: "in", ms: 0 });
    expect(waitOf(counterOf([]), TWO_A_MINUTE, 3, NOW_MS)).toEqual({ kind: "never" });
  });

  test("is unknown exactly if events that are not listed are in the window", () => {
    expect(waitOf(counterOf([1, 2], { events_total: 3 }), TWO_A_MINUTE, 1, NOW_MS)).toEqual({ kind: "unknown" });
    expect(waitOf(counterOf([1, 60_000], { events_total: 3 }), TWO_A_MINUTE, 1, NOW_MS)).toEqual({ kind: "in", ms: 0 });
  });

  test("does not depend on events settled at 0", () => {
    const events = [{ id: "e", at: instant(-5), cost: 0 }];
    expect(eventsOf(counterOf([], { events, events_total: 1 }))).toEqual([]);
  });

  test("is known for an event that is ahead of this machine's clock", () => {
    expect(waitOf(counterOf([-5, -5]), TWO_A_MINUTE, 1, NOW_MS)).toEqual({ kind: "in", ms: 60_000 });
  });
});

describe("the wait of a cost for a key with an override", () => {
  const full = counterOf([0, 0]);
  const fits = (override: Override | null, counter = full) =>
    waitOfCounter(counter, [TWO_A_MINUTE], override, 1, NOW_MS);

  test("ends with a ban, or later if the policy's own limits say so", () => {
    expect(fits(overrideOf("ban", 60_001))).toEqual({ kind: "in", ms: 60_001 });
    expect(fits(overrideOf("ban", 1))).toEqual({ kind: "in", ms: 60_000 });
    expect(fits(overrideOf("ban", 1), counterOf([]))).toEqual({ kind: "in", ms: 1 });
  });

  test("is 0 under an exemption until that ends", () => {
    expect(fits(overrideOf("exempt", 1))).toEqual({ kind: "in", ms: 0 });
    expect(fits(overrideOf("exempt", 0))).toEqual({ kind: "in", ms: 60_000 });
  });

  test("follows overriding limits while they are in force, and the policy's own limits afterwards", () => {
    const limits = [{ limit: 2, window_seconds: 10, used: 2, remaining: 0, reset_seconds: 10 }];
    const counter = { ...full, limits };
    const named = { limits: [{ policy: "chat", layer: "caller", limits: ["2 per 10 seconds"] }] };
    expect(fits(overrideOf("limits", 10_001, named), counter)).toEqual({ kind: "in", ms: 10_000 });
    expect(fits(overrideOf("limits", 10_000, named), counter)).toEqual({ kind: "in", ms: 60_000 });
  });

  test("is endless for a cost above the policy's own limit, whatever the override, since the service refuses it", () => {
    const limits = [{ limit: 9, window_seconds: 60, used: 2, remaining: 7, reset_seconds: 60 }];
    const named = { limits: [{ policy: "chat", layer: "caller", limits: ["9/minute"] }] };
    const overrides = [overrideOf("exempt", 60_000), overrideOf("limits", 60_000, named), overrideOf("ban", 60_000)];
    for (const override of overrides) {
      const fits = (cost: number) => waitOfCounter({ ...full, limits }, [TWO_A_MINUTE], override, cost, NOW_MS).kind;
      expect([fits(2), fits(3)]).toEqual(["in", "never"]);
    }
  });

  test("is what the policy says where other limits name another layer", () => {
    const named = { limits: [{ policy: "chat", layer: "ip", limits: ["1/day"] }] };
    expect(fits(overrideOf("limits", 1_000, named))).toEqual({ kind: "in", ms: 60_000 });
  });

  describe("with a concurrent limit", () => {
    const taken = { limit: 1, window_seconds: 60, used: 1, remaining: 0, reset_seconds: 9, concurrent: true };
    const withTaken = { ...full, limits: [taken] };

    test("is unknown if all places are taken", () => {
      expect(fits(null, withTaken)).toEqual({ kind: "unknown" });
      expect(fits(overrideOf("ban", 60_001), withTaken)).toEqual({ kind: "unknown" });
    });

    test("follows the limits on costs if a place is left", () => {
      expect(fits(null, { ...full, limits: [{ ...taken, remaining: 1 }] })).toEqual({ kind: "in", ms: 0 });
    });

    test("is 0 under an exemption even if all places are taken", () => {
      expect(fits(overrideOf("exempt", 1), withTaken)).toEqual({ kind: "in", ms: 0 });
    });

    test("is endless for a cost above another limit", () => {
      const counter = { ...full, limits: [taken, ...full.limits] };
      expect(waitOfCounter(counter, [], null, 3, NOW_MS)).toEqual({ kind: "never" });
    });
  });
});

test("the largest cost follows from the limits on costs of live layers alone", () => {
  const layer = (mode: "live" | "shadow", ...limits: object[]) =>
    ({ name: "a", by: ["user"], mode, limits }) as LayerState;
  const of = (limit: number) => ({ limit, window_seconds: 60 });
  const layers = [layer("live", of(5), of(3)), layer("live", of(4)), layer("shadow", of(1))];
  expect(largestCostOf({ name: "chat", layers })).toBe(3);
  expect(largestCostOf({ name: "jobs", layers: [layer("live", { ...of(2), concurrent: true })] })).toBe(Infinity);
});

test("an event settled at 0 stays an event, with its cost at admission", () => {
  const events = [{ id: "e", at: instant(-5), cost: 0, admitted_cost: 3 }];
  expect(admittedIn(counterOf([], { events, events_total: 1 }))).toEqual([
    { id: "e", atMs: NOW_MS - 5, cost: 0, admittedCost: 3 },
  ]);
});

test("the longest wait of several limits decides", () => {
  const waits = [
    { kind: "in", ms: 5 },
    { kind: "in", ms: 7 },
    { kind: "in", ms: 6 },
  ] as const;
  expect(longest(waits)).toEqual({ kind: "in", ms: 7 });
  expect(longest([])).toEqual({ kind: "in", ms: 0 });
  expect(longest([...waits, { kind: "unknown" }])).toEqual({ kind: "unknown" });
  expect(longest([{ kind: "unknown" }, { kind: "never" }])).toEqual({ kind: "never" });
});
