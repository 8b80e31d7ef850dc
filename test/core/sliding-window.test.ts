import { describe, expect, test } from "vitest";
import { consume, standingsOf } from "../../src/core/decide";
import { EventLog } from "../../src/core/sliding-window";

const event = (atMs: number) => ({ atMs, cost: 1, released: false, retainMs: 60_000 });

/** A decision at `atMs`. `used` is how much is used after it, `waitMs` how long a denied cost must wait. */
type Step = readonly [atMs: number, cost: number, outcome: "admitted" | "denied", used: number, waitMs: number];

const TABLES: Record<string, { max: number; windowMs: number; steps: Step[] }> = {
  "admits up to the limit and no more": {
    max: 3,
    windowMs: 1_000,
    steps: [
      [0, 1, "admitted", 1, 0],
      [0, 1, "admitted", 2, 0],
      [0, 1, "admitted", 3, 0],
      [0, 1, "denied", 3, 1_000],
    ],
  },
  "denies one millisecond before the oldest event leaves the window, admits at the instant it does": {
    max: 1,
    windowMs: 1_000,
    steps: [
      [5_000, 1, "admitted", 1, 0],
      [5_999, 1, "denied", 1, 1],
      [6_000, 1, "admitted", 1, 0],
      [6_999, 1, "denied", 1, 1],
      [7_000, 1, "admitted", 1, 0],
    ],
  },
  "admits no double burst at the boundary of two fixed windows": {
    max: 2,
    windowMs: 1_000,
    steps: [
      [900, 1, "admitted", 1, 0],
      [950, 1, "admitted", 2, 0],
      [1_050, 1, "denied", 2, 850],
      [1_899, 1, "denied", 2, 1],
      [1_900, 1, "admitted", 2, 0],
      [1_949, 1, "denied", 2, 1],
    ],
  },
  "weighs costs, and has a higher cost wait for more of them to leave": {
    max: 10,
    windowMs: 1_000,
    steps: [
      [0, 4, "admitted", 4, 0],
      [100, 4, "admitted", 8, 0],
      [200, 3, "denied", 8, 800],
      [200, 2, "admitted", 10, 0],
      [300, 1, "denied", 10, 700],
      [300, 5, "denied", 10, 800],
      [300, 9, "denied", 10, 900],
      [1_000, 4, "admitted", 10, 0],
    ],
  },
  "records nothing of a denied cost": {
    max: 5,
    windowMs: 1_000,
    steps: [
      [0, 4, "admitted", 4, 0],
      [1, 5, "denied", 4, 999],
      [1, 2, "denied", 4, 999],
      [1, 1, "admitted", 5, 0],
    ],
  },
  "admits the whole limit at once": {
    max: 1_000_000,
    windowMs: 1_000,
    steps: [
      [0, 1_000_000, "admitted", 1_000_000, 0],
      [1, 1, "denied", 1_000_000, 999],
      [1_000, 1_000_000, "admitted", 1_000_000, 0],
    ],
  },
};

describe("one limit", () => {
  for (const [name, { max, windowMs, steps }] of Object.entries(TABLES))
    test(name, () => {
      const log = new EventLog();
      for (const [atMs, cost, outcome, used, waitMs] of steps) {
        const { allowed, standings } = consume([{ log, limits: [{ max, windowMs }], cost }], atMs);
        const standing = standings[0]?.[0];
        const actual = { atMs, outcome: allowed ? "admitted" : "denied", used: standing?.used };
        expect(actual).toEqual({ atMs, outcome, used });
        if (!allowed) expect({ atMs, waitMs: standing?.fitsInMs }).toEqual({ atMs, waitMs });
      }
    });
});

test("several limits are views of one log, and the slowest of them decides the wait", () => {
  const log = new EventLog();
  const limits = [
    { max: 2, windowMs: 1_000 },
    { max: 3, windowMs: 60_000 },
  ];
  for (const at of [0, 0, 1_000]) expect(consume([{ log, limits, cost: 1 }], at).allowed).toBe(true);
  const { allowed, standings } = consume([{ log, limits, cost: 1 }], 1_500);
  expect(allowed).toBe(false);
  expect(standings[0]?.map(({ used, fitsInMs }) => [used, fitsInMs])).toEqual([
    [1, 0],
    [3, 58_500],
  ]);
});

describe("a concurrent limit", () => {
  const limits = [
    { max: 10, windowMs: 1_000 },
    { kind: "concurrent" as const, max: 2, windowMs: 5_000 },
  ];

  test("counts events, whatever they cost, until they are released or their window has passed", () => {
    const counter = { log: new EventLog(), limits };
    const decide = (cost: number, atMs: number) => consume([{ ...counter, cost }], atMs).allowed;
    expect([decide(7, 0), decide(1, 100), decide(1, 200)]).toEqual([true, true, false]);
    expect(standingsOf({ ...counter, cost: 1 }, 200)).toEqual([
      { used: 8, fitsInMs: 0, freesInMs: 800, resetsInMs: 900 },
      { used: 2, fitsInMs: 4_800, freesInMs: 4_800, resetsInMs: 4_900 },
    ]);
    expect([decide(1, 4_999), decide(10, 5_000), decide(1, 5_000)]).toEqual([false, true, false]);
    const second = { atMs: 100, cost: 1, retainMs: 5_000 };
    counter.log.remove({ ...second, released: false });
    counter.log.record({ ...second, released: true });
    // A cost of 9 is too much for the limit on costs only.
    expect(standingsOf({ ...counter, cost: 9 }, 5_000).map(({ fitsInMs }) => fitsInMs)).toEqual([1_000, 0]);
    expect([decide(1, 5_999), decide(1, 6_000), decide(1, 6_000)]).toEqual([false, true, false]);
  });
});

test("a consume that one counter denies charges no counter", () => {
  const full = new EventLog();
  const free = new EventLog();
  const limits = [{ max: 1, windowMs: 1_000 }];
  full.record(event(0));
  const counters = [
    { log: free, limits, cost: 1 },
    { log: full, limits, cost: 1 },
  ];
  expect(consume(counters, 10).allowed).toBe(false);
  expect([free.size, full.size]).toEqual([0, 1]);
});

test("a lowered limit counts all events in its window, and the wait ends when few enough are left", () => {
  const log = new EventLog();
  for (const at of [0, 100, 200, 300]) log.record(event(at));
  expect(log.standing({ max: 2, windowMs: 1_000 }, 1, 400)).toEqual({
    used: 4,
    fitsInMs: 800,
    freesInMs: 600,
    resetsInMs: 900,
  });
});

describe("retention", () => {
  const used = (log: EventLog, windowMs: number, nowMs: number, sparedFromMs?: number) =>
    log.standing({ max: 5, windowMs }, 1, nowMs, sparedFromMs).used;

  test("lets a longer window count events that a shorter one does not see any more", () => {
    const log = new EventLog();
    log.record(event(0));
    expect(used(log, 1_000, 2_000)).toBe(0);
    expect(used(log, 5_000, 2_000)).toBe(1);
  });

  test("keeps an event until its own retention has passed, to the millisecond, even in memory", () => {
    const log = new EventLog();
    log.record({ ...event(0), retainMs: 1_000 });
    expect([999, 1_000].map((nowMs) => used(log, 5_000, nowMs))).toEqual([1, 0]);
  });

  test("keeps every event after a kept event, even if its own retention has passed", () => {
    const log = new EventLog();
    log.record({ ...event(0), retainMs: 10_000 });
    log.record({ ...event(0), retainMs: 1_000 });
    log.record({ ...event(100), retainMs: 1_000 });
    expect([1_100, 9_999, 10_000].map((nowMs) => used(log, 60_000, nowMs))).toEqual([3, 3, 0]);
  });

  test("does not keep an event because of a later event", () => {
    const log = new EventLog();
    log.record({ ...event(0), retainMs: 1_000 });
    log.record({ ...event(100), retainMs: 10_000 });
    expect([999, 1_000].map((nowMs) => used(log, 60_000, nowMs))).toEqual([2, 1]);
  });

  test("keeps the events that an override spares, from its instant on", () => {
    const log = new EventLog();
    for (const at of [0, 100, 200]) log.record({ ...event(at), retainMs: 1_000 });
    expect([0, 100, 201, undefined].map((fromMs) => used(log, 60_000, 2_000, fromMs))).toEqual([3, 2, 0, 0]);
  });

  test("drops no kept event, however often a shorter window is used", () => {
    const log = new EventLog();
    for (let at = 0; at < 1_000; at++) log.record({ ...event(at), retainMs: 100_000 });
    for (let at = 1_000; at < 3_000; at++)
      consume([{ log, limits: [{ max: 1_000_000, windowMs: 1_000 }], cost: 1 }], at);
    expect(used(log, 100_000, 3_000)).toBe(3_000);
  });
});

test.each([-1, Number.NaN])("a cost of %d is a fault of the caller", (cost) => {
  const counter = { log: new EventLog(), limits: [{ max: 5, windowMs: 1_000 }], cost };
  expect(() => consume([counter], 0)).toThrow("a cost is at least 0");
  expect(counter.log.size).toBe(0);
});

test("a counter with a cost of 0 decides nothing, and records an event that takes no place", () => {
  const limits = [
    { max: 5, windowMs: 1_000 },
    { kind: "concurrent" as const, max: 1, windowMs: 1_000 },
  ];
  const full = { log: new EventLog(), limits };
  full.log.record({ ...event(0), cost: 7 });
  const free = { log: new EventLog(), limits };
  const { allowed, standings } = consume(
    [
      { ...full, cost: 0 },
      { ...free, cost: 5 },
    ],
    10,
  );
  expect(allowed).toBe(true);
  expect(standings.map((limits) => limits.map(({ used, fitsInMs }) => ({ used, fitsInMs })))).toEqual([
    [
      { used: 7, fitsInMs: 0 },
      { used: 1, fitsInMs: 0 },
    ],
    [
      { used: 5, fitsInMs: 1_000 },
      { used: 1, fitsInMs: 1_000 },
    ],
  ]);
  expect([full.log.size, free.log.size]).toEqual([2, 1]);
});

test("a cost above the limit is a fault of the caller", () => {
  const limits = [{ max: 5, windowMs: 1_000 }];
  expect(() => consume([{ log: new EventLog(), limits, cost: 6 }], 0)).toThrow("a cost is at most the limit");
});

test("a limit without a window is a fault of the caller", () => {
  const limits = [{ max: 5, windowMs: 0 }];
  expect(() => consume([{ log: new EventLog(), limits, cost: 1 }], 0)).toThrow("a limit has a window above 0 ms");
});

test("drops events that are not kept any more, in bulk", () => {
  const log = new EventLog();
  const limits = [{ max: 1_000_000, windowMs: 1_000 }];
  for (let at = 0; at < 100_000; at++) {
    consume([{ log, limits, cost: 1 }], at);
    expect(log.size).toBeLessThanOrEqual(2_001);
  }
});

test("a decision takes the same time however long the log is", () => {
  const decide = (events: number) => {
    const log = new EventLog();
    const limits = [
      { max: events, windowMs: events },
      { max: 1_000_000, windowMs: 10 * events },
    ];
    for (let at = 0; at < events; at++) log.record(event(at));
    const startedMs = performance.now();
    for (let i = 0; i < 200_000; i++) consume([{ log, limits, cost: 1 }], events + i);
    return performance.now() - startedMs;
  };
  decide(10);
  // A scan of the log would be slower by a factor of thousands. The bound leaves room for a noisy machine.
  expect(decide(100_000) / decide(10)).toBeLessThan(20);
});
