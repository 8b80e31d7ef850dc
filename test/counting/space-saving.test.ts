import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SpaceSaving } from "../../src/counting/space-saving";

/** A few frequent items and many rare items, like keys. */
const stream = fc.array(fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 60 })), { maxLength: 300 });

function sketchOf(items: readonly number[], capacity: number): SpaceSaving {
  const sketch = new SpaceSaving(capacity);
  for (const item of items) sketch.add(String(item));
  return sketch;
}

/** Checks the bound of a sketch against exact counts of its stream. */
function judge(sketch: SpaceSaving, items: readonly number[]): void {
  const exact = new Map<string, number>();
  for (const item of items) exact.set(String(item), (exact.get(String(item)) ?? 0) + 1);
  const estimates = sketch.estimates();
  const bound = Math.floor(items.length / sketch.capacity);
  expect(sketch.errorAtMost).toBeLessThanOrEqual(bound);
  expect(estimates.length).toBeLessThanOrEqual(sketch.capacity);
  expect(estimates.map(({ count }) => count)).toEqual(estimates.map(({ count }) => count).sort((a, b) => b - a));
  expect(estimates.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(items.length);
  for (const { item, count, error } of estimates) {
    const real = exact.get(item) ?? 0;
    expect([item, count >= real, count - error <= real, error <= sketch.errorAtMost]).toEqual([item, true, true, true]);
  }
  const kept = new Set(estimates.map(({ item }) => item));
  for (const [item, real] of exact) if (!kept.has(item)) expect(real).toBeLessThanOrEqual(sketch.errorAtMost);
}

describe("the items counted most often", () => {
  test("are counted exactly while there is room for all items", () => {
    const sketch = sketchOf([1, 2, 1, 3, 1, 2], 4);
    expect(sketch.estimates()).toEqual([
      { item: "1", count: 3, error: 0 },
      { item: "2", count: 2, error: 0 },
      { item: "3", count: 1, error: 0 },
    ]);
    expect(sketch.errorAtMost).toBe(0);
  });

  test("are never counted too low, nor too high by more than additions / capacity", () => {
    fc.assert(fc.property(stream, fc.integer({ min: 1, max: 20 }), (items, k) => judge(sketchOf(items, k), items)));
  });

  test("keep that bound however often sketches are merged, serialized and added to", () => {
    const streams = fc.array(fc.tuple(stream, stream), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(streams, fc.integer({ min: 1, max: 20 }), (parts, k) => {
        const sum = new SpaceSaving(k);
        const all: number[] = [];
        for (const [merged, counted] of parts) {
          sum.merge(new SpaceSaving(k, sketchOf(merged, k).estimates()));
          for (const item of counted) sum.add(String(item));
          all.push(...merged, ...counted);
        }
        judge(sum, all);
      }),
    );
  });

  test("are never left out if they were counted more often than additions / capacity", () => {
    const items = Array.from({ length: 3_000 }, (_, i) => (i % 10 === 0 ? -1 : i));
    expect(sketchOf(items, 16).estimates()[0]).toMatchObject({ item: "-1" });
  });
});
