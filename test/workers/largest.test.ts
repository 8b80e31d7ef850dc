import { expect, test } from "vitest";
import { LARGEST_MAX, LONGEST_WINDOW_MS } from "../../src/core/limit";
import { Store } from "../../src/object/store/store";
import { charge, inside, newObject, START_MS, TestLedger } from "./ledger";

const LIMITS = [
  { max: LARGEST_MAX, windowMs: LONGEST_WINDOW_MS },
  { kind: "concurrent" as const, max: LARGEST_MAX, windowMs: 60_000 },
];
const counter = (key: string) => ({ layer: "caller", key, limits: LIMITS });

test("the largest limit admits its last unit and nothing more, to the unit, also when read back from storage", async () => {
  await inside(newObject(), (storage) => {
    const reopened = () => new TestLedger(new Store(storage));
    const used = () => reopened().check(charge([counter("user:u")]), START_MS).standings[0]?.[0]?.used;
    const first = charge([counter("user:u")], LARGEST_MAX - 1);
    expect(reopened().consume(first, START_MS).allowed).toBe(true);
    expect(reopened().consume(charge([counter("user:u")], 2), START_MS).allowed).toBe(false);
    expect(reopened().consume(charge([counter("user:u")], 1), START_MS).allowed).toBe(true);
    expect(used()).toBe(LARGEST_MAX);
    expect(reopened().consume(charge([counter("user:u")], 1), START_MS)).toMatchObject({
      allowed: false,
      standings: [[{ fitsInMs: LONGEST_WINDOW_MS }, { used: 2 }]],
    });
    expect(reopened().settle({ ...first, cost: LARGEST_MAX }, START_MS).found).toBe(true);
    expect(used()).toBe(LARGEST_MAX + 1);
    expect(reopened().settle({ ...first, cost: 0 }, START_MS).found).toBe(true);
    expect(used()).toBe(1);
  });
});

test("sums far above 2^32 are exact, in memory, in the journal and in the table of pages", async () => {
  await inside(newObject(), (storage) => {
    const store = new Store(storage);
    const ledger = new TestLedger(store);
    const keys = Array.from({ length: 9 }, (_, i) => `user:${i}`);
    // Exempt from their limits, so that each admits a hundred times the largest cost.
    for (const key of keys)
      ledger.setOverride(key, { kind: "exempt", reason: "", ends: { inMs: 3_600_000 } }, START_MS);
    for (let i = 0; i < 100; i++) {
      const calls = keys.map((key) => ({
        method: "consume" as const,
        question: charge([counter(key)], LARGEST_MAX - (i % 2)),
      }));
      ledger.decide(calls, START_MS + i);
    }
    const used = (reader: TestLedger) =>
      keys.map((key) => reader.check(charge([counter(key)]), START_MS + 100).standings[0]?.[0]?.used);
    const expected = keys.map(() => 100 * LARGEST_MAX - 50);
    expect(used(ledger)).toEqual(expected);
    expect(used(new TestLedger(new Store(storage)))).toEqual(expected);
    while (store.checkpoint());
    expect(used(new TestLedger(new Store(storage)))).toEqual(expected);
  });
});
