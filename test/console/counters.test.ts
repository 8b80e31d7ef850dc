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
    expect(eventsOf(counterOf([], { events, events_total: 1 }), TWO_A_MINUTE)).toEqual([]);
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
    const taken = { limit: 2, window_seconds: 60, used: 2, remaining: 0, reset_seconds: 59, concurrent: true };
    const own = [parseLimit("2 concurrent per minute")];
    /** The events of these ages hold places, the newest first. */
    const holding = (agesMs: readonly number[], more: Partial<CounterState> = {}) =>
      counterOf(agesMs, { limits: [taken], ...more });
    const fits = (override: Override | null, counter: CounterState) => waitOfCounter(counter, own, override, 1, NOW_MS);

    test("ends when the oldest place is free, or sooner by a release", () => {
      expect(fits(null, holding([1_000, 20_000]))).toEqual({ kind: "in", ms: 40_000, orSooner: true });
    });

    test("does not depend on events that were released, but on those settled at 0", () => {
      const { events } = holding([1_000, 20_000, 30_000]);
      const withReleased = events.map((event, i) => ({ ...event, ...(i === 1 && { released: true as const }) }));
      const released = holding([], { events: withReleased, events_total: 3 });
      expect(fits(null, released)).toEqual({ kind: "in", ms: 30_000, orSooner: true });
      const settled = holding([], { events: withReleased.map((event) => ({ ...event, cost: 0 })), events_total: 3 });
      expect(fits(null, settled)).toEqual({ kind: "in", ms: 30_000, orSooner: true });
    });

    test("is 0 if a place is left", () => {
      expect(fits(null, holding([1_000]))).toEqual({ kind: "in", ms: 0 });
    });

    test("is not ended by a release if a limit on costs takes as long", () => {
      const limits = [taken, { limit: 2, window_seconds: 60, used: 2, remaining: 0, reset_seconds: 59 }];
      expect(fits(null, holding([1_000, 20_000], { limits }))).toEqual({ kind: "in", ms: 40_000 });
      expect(fits(null, holding([1_000, 20_000], { limits: limits.reverse() }))).toEqual({ kind: "in", ms: 40_000 });
    });

    test("is that of the ban, or of the places if they are taken for longer", () => {
      expect(fits(overrideOf("ban", 60_001), holding([1_000, 20_000]))).toEqual({ kind: "in", ms: 60_001 });
      expect(fits(overrideOf("ban", 1), holding([1_000, 20_000]))).toEqual({ kind: "in", ms: 40_000, orSooner: true });
    });

    test("is unknown if older events are not listed", () => {
      expect(fits(null, holding([1_000, 20_000], { events_total: 3 }))).toEqual({ kind: "unknown" });
    });

    test("is 0 under an exemption even if all places are taken", () => {
      expect(fits(overrideOf("exempt", 1), holding([1_000, 20_000]))).toEqual({ kind: "in", ms: 0 });
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
