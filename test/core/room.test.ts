import { describe, expect, test } from "vitest";
import { admits, check, consume } from "../../src/core/decide";
import { LARGEST_MAX, LONGEST_WINDOW_MS } from "../../src/core/limit";
import { overrideOf } from "../../src/core/override";
import { EventLog, MAX_EVENTS } from "../../src/core/sliding-window";
import { standingAfter } from "../../src/core/standing";

const NOW_MS = 1_700_000_000_000;
const WIDE = { max: LARGEST_MAX, windowMs: 60_000 };
const event = (atMs: number, retainMs = 60_000) => ({ atMs, cost: 1, released: false, retainMs });

/** A log without room: of three events of a minute, a second apart. */
function fullLog(marginMs = 0): EventLog {
  const log = new EventLog(marginMs, 3);
  for (const inMs of [0, 1_000, 2_000]) log.record(event(NOW_MS + inMs, 60_000 + marginMs));
  return log;
}

describe("a counter that holds as many events as it can", () => {
  test("denies until the oldest has left, to the millisecond, however much its limits admit", () => {
    const counter = { log: fullLog(), limits: [WIDE], cost: 1 };
    expect(check([counter], NOW_MS + 2_000).standings[0]?.[0]).toEqual({
      used: 3,
      fitsInMs: 58_000,
      freesInMs: 58_000,
      resetsInMs: 60_000,
      fullForMs: 58_000,
    });
    for (const [inMs, allowed] of [
      [59_999, false],
      [60_000, true],
    ] as const) {
      expect(admits([{ ...counter, cost: LARGEST_MAX - 2 }], NOW_MS + inMs)).toBe(allowed);
      expect(consume([counter], NOW_MS + inMs).allowed).toBe(allowed);
    }
    expect(counter.log.fullForMs(NOW_MS + 60_000)).toBe(1_000);
  });

  test("has the wait at the limit with the longest window, which may wait for longer by itself", () => {
    const limits = [
      WIDE,
      { max: LARGEST_MAX, windowMs: 70_000 },
      { kind: "concurrent" as const, max: 3, windowMs: 100 },
    ];
    const standings = (cost: number) =>
      check([{ log: fullLog(), limits, cost }], NOW_MS + 2_000).standings[0]?.map(({ fitsInMs, fullForMs }) => [
        fitsInMs,
        fullForMs,
      ]);
    expect(standings(1)).toEqual([
      [0, undefined],
      [58_000, 58_000],
      [0, undefined],
    ]);
    expect(standings(LARGEST_MAX - 1)).toEqual([
      [59_000, undefined],
      [69_000, 58_000],
      [0, undefined],
    ]);
  });

  test("denies a cost of 0 too: its event would take room", () => {
    const counter = { log: fullLog(), limits: [WIDE], cost: 0 };
    for (const [inMs, allowed] of [
      [59_999, false],
      [60_000, true],
    ] as const) {
      expect(admits([counter], NOW_MS + inMs)).toBe(allowed);
      expect(consume([counter], NOW_MS + inMs).allowed).toBe(allowed);
    }
  });

  test("records in no other counter what it denies", () => {
    const free = new EventLog();
    const counters = [
      { log: free, limits: [WIDE], cost: 1 },
      { log: fullLog(), limits: [WIDE], cost: 1 },
    ];
    expect(consume(counters, NOW_MS + 2_000).allowed).toBe(false);
    expect(free.size).toBe(0);
  });

  test("has room once an event is removed, and not by settling it at 0 or releasing it", () => {
    const log = fullLog();
    log.remove(event(NOW_MS + 1_000));
    expect(log.fullForMs(NOW_MS + 2_000)).toBe(0);
    log.record({ ...event(NOW_MS + 1_000), cost: 0, released: true });
    expect(log.fullForMs(NOW_MS + 2_000)).toBe(58_000);
  });

  test("waits for as many events as it holds too many, and for the last of them to leave", () => {
    const log = new EventLog(0, 2);
    log.record(event(NOW_MS, 90_000));
    for (const inMs of [1_000, 2_000]) log.record(event(NOW_MS + inMs));
    expect(log.fullForMs(NOW_MS + 2_000)).toBe(88_000);
  });

  test("has room a margin before its oldest event is forgotten", () => {
    expect(fullLog(5_000).fullForMs(NOW_MS + 2_000)).toBe(58_000);
    expect(fullLog(5_000).keptFromMs(NOW_MS + 64_999)).toBe(NOW_MS);
  });
});

describe("under an override", () => {
  const override = (kind: "limits" | "exempt" | "ban", endsInMs: number, max = 10, windowMs = 100_000) => {
    const layers = [{ policy: "p", layer: "l", limits: [{ max, windowMs }], keptFromMs: NOW_MS }];
    return overrideOf(
      { kind, reason: "", endsAtMs: NOW_MS + endsInMs, ...(kind === "limits" && { layers }) },
      "p",
      "l",
    );
  };
  const waitMs = (inForce: ReturnType<typeof override>, limits = [WIDE]) =>
    check([{ log: fullLog(), limits, cost: 1, override: inForce }], NOW_MS + 2_000).standings[0]?.[0]?.fitsInMs;

  test("an exempt counter without room denies until there is room", () => {
    expect(waitMs(override("exempt", 200_000))).toBe(58_000);
  });

  test("events that the override spares take room for its window, or until it ends", () => {
    expect(waitMs(override("limits", 200_000))).toBe(98_000);
    expect(waitMs(override("limits", 80_000))).toBe(78_000);
    expect(waitMs(override("limits", 50_000))).toBe(58_000);
  });

  test("the wait goes on after its end, until the counter's own limits admit the cost", () => {
    const own = [{ max: 1, windowMs: 61_000 }];
    expect(waitMs(override("exempt", 59_000), own)).toBe(61_000);
    expect(waitMs(override("exempt", 61_000), own)).toBe(58_000);
    expect(waitMs(override("ban", 10_000), own)).toBe(61_000);
  });
});

test("the wait for room is counted down in a denial that is answered from memory", () => {
  const standing = { used: 3, fitsInMs: 58_000, freesInMs: 58_000, resetsInMs: 60_000, fullForMs: 58_000 };
  expect(standingAfter(600, standing, [58_000, 1])).toEqual({
    used: 3,
    fitsInMs: 57_400,
    freesInMs: 57_400,
    resetsInMs: 59_400,
    fullForMs: 57_400,
  });
});

test("a counter holds a million events of the largest cost, adds them up exactly, and then has a decision wait", () => {
  const log = new EventLog();
  const retainMs = LONGEST_WINDOW_MS;
  for (let i = 0; i < MAX_EVENTS; i++) log.record({ atMs: NOW_MS + i, cost: LARGEST_MAX, released: false, retainMs });
  const nowMs = NOW_MS + MAX_EVENTS;
  const limits = [{ max: LARGEST_MAX, windowMs: LONGEST_WINDOW_MS }];
  const leavesInMs = LONGEST_WINDOW_MS - MAX_EVENTS;
  const [verdict] = check([{ log, limits, cost: 1 }], nowMs).standings;
  expect(verdict).toEqual([
    {
      used: 1e15,
      fitsInMs: leavesInMs + 999_999,
      freesInMs: leavesInMs,
      resetsInMs: leavesInMs + 999_999,
      fullForMs: leavesInMs,
    },
  ]);
  // Room, and little by little all of the sum, come back to the millisecond.
  expect(log.fullForMs(nowMs + leavesInMs - 1)).toBe(1);
  expect(log.fullForMs(nowMs + leavesInMs)).toBe(0);
  expect(log.standing(limits[0] as (typeof limits)[0], 1, nowMs + leavesInMs + 499_999).used).toBe(5e14);
});

test("a full counter that goes on holds little in memory that it does not keep", () => {
  const log = new EventLog();
  const limits = [{ max: LARGEST_MAX, windowMs: MAX_EVENTS }];
  let largest = 0;
  for (let i = 0; i < 2.2 * MAX_EVENTS; i++) {
    log.record(event(NOW_MS + i, MAX_EVENTS));
    log.drop(NOW_MS + i);
    largest = Math.max(largest, log.size);
  }
  expect(largest).toBeLessThanOrEqual(1.1 * MAX_EVENTS + 1);
  expect(check([{ log, limits, cost: 1 }], NOW_MS + 2.2 * MAX_EVENTS).allowed).toBe(true);
});

test("sums stay exact however many events of the largest cost have come and gone", () => {
  const log = new EventLog();
  const limits = [{ max: LARGEST_MAX, windowMs: 1_000 }];
  // 12 million events of a thousand million are more than 2^53 together.
  const perTurn = 1_000;
  for (let turn = 0; turn < 12_000; turn++) {
    const atMs = NOW_MS + turn * 1_000;
    for (let i = 0; i < perTurn; i++)
      log.record({ atMs, cost: LARGEST_MAX - (i % 2), released: false, retainMs: 1_000 });
    log.drop(atMs);
  }
  const standing = log.standing(limits[0] as (typeof limits)[0], 1, NOW_MS + 11_999_000);
  expect(standing.used).toBe(perTurn * LARGEST_MAX - perTurn / 2);
});
