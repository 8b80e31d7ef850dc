import fc from "fast-check";
import { expect, test } from "vitest";
import { admits, check, consume } from "../../src/core/decide";
import { type Limit, longestWindowMs } from "../../src/core/limit";
import { EventLog } from "../../src/core/sliding-window";
import { Oracle } from "../../tools/oracle";

const RUNS = 250;
const MIN_OPERATIONS = 400;

/** Windows that divide each other and windows that do not, so that boundaries meet and miss. */
const limits = fc
  .uniqueArray(
    fc.record({
      kind: fc.constantFrom(undefined, undefined, "concurrent" as const),
      max: fc.integer({ min: 1, max: 60 }),
      windowMs: fc.constantFrom(1_000, 2_000, 5_000, 7_000, 60_000),
    }),
    { minLength: 1, maxLength: 4, selector: ({ kind, windowMs }) => `${windowMs} ${kind}` },
  )
  .map((limits): Limit[] => limits.map(({ kind, ...limit }) => (kind ? { kind, ...limit } : limit)));

const operation = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom("consume", "check"),
      // The cost in each counter. A request often weighs the same in all.
      costs: fc.oneof(
        fc.constant([1, 1, 1]),
        fc.integer({ min: 1, max: 8 }).map((cost) => [cost, cost, cost]),
        fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 3, maxLength: 3 }),
      ),
    }),
  },
  {
    weight: 6,
    // To the millisecond at which something leaves a window, around it, and anywhere.
    arbitrary: fc.record({
      do: fc.constant("advance"),
      ms: fc.oneof(fc.constantFrom(0, 1, 999, 1_000, 1_001, 5_000), fc.integer({ min: 0, max: 9_000 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("relimit"), counter: fc.nat({ max: 2 }), limits }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("settle"),
      back: fc.nat({ max: 5 }),
      to: fc.oneof(fc.constant(0), fc.nat({ max: 80 })),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("release"), ended: fc.nat({ max: 5 }) }) },
);

/** How many events a counter holds, and how long before the end of its retention an event takes no more room. */
const room = fc.tuple(fc.constantFrom(1, 4, 15, 1_000_000), fc.constantFrom(0, 0, 500));

test("decides like an oracle that keeps every event for ever and adds up costs", () => {
  let operations = 0;
  const history = fc.array(operation, { minLength: MIN_OPERATIONS, maxLength: MIN_OPERATIONS + 100, size: "max" });
  fc.assert(
    fc.property(
      fc.array(limits, { minLength: 1, maxLength: 3 }),
      history,
      room,
      (initial, history, [most, marginMs]) => {
        const counters = initial.map((limits) => ({
          log: new EventLog(marginMs, most),
          limits,
          oracle: new Oracle(most, marginMs),
        }));
        let nowMs = 1_700_000_000_000;
        const change = (back: number, to: { cost?: number; released?: boolean }) => {
          for (const { log, oracle } of counters) {
            const event = oracle.keptAt(nowMs).at(-1 - back);
            if (!event) continue;
            log.remove(event);
            Object.assign(event, to);
            log.record(event);
          }
        };
        for (const step of history) {
          operations++;
          if ("ms" in step) nowMs += step.ms;
          else if ("limits" in step) {
            const counter = counters[step.counter];
            if (counter) counter.limits = step.limits;
          } else if ("back" in step) change(step.back, { cost: step.to });
          else if ("ended" in step) change(step.ended, { released: true });
          else {
            const asked = counters.map((counter, c) => {
              const onCosts = counter.limits.filter(({ kind }) => kind === undefined);
              return { ...counter, cost: Math.min(step.costs[c] ?? 1, ...onCosts.map(({ max }) => max)) };
            });
            const fits = asked.every(
              ({ oracle, limits, cost }) =>
                oracle.fullForMs(nowMs) === 0 && limits.every((limit) => oracle.fits(cost, nowMs, limit)),
            );
            expect(admits(asked, nowMs)).toBe(fits);
            const verdict = (step.do === "consume" ? consume : check)(asked, nowMs);
            expect(verdict.allowed).toBe(fits);
            if (step.do === "consume" && verdict.allowed)
              for (const { oracle, limits, cost } of asked) oracle.record(nowMs, cost, longestWindowMs(limits));
            asked.forEach(({ oracle, limits, cost }, c) => {
              expect(verdict.standings[c]).toEqual(oracle.standings(limits, cost, nowMs));
            });
          }
        }
      },
    ),
    { numRuns: RUNS },
  );
  expect(operations).toBeGreaterThanOrEqual(RUNS * MIN_OPERATIONS);
}, 120_000);
