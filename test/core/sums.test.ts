import fc from "fast-check";
import { expect, test } from "vitest";
import { Repeated } from "../../src/core/repeated";
import { Sums } from "../../src/core/sums";

const step = fc.oneof(
  fc.record({
    do: fc.constant("insert" as const),
    at: fc.nat(),
    weight: fc.constantFrom(1, 1, 1, 0, 7, 2 ** 32 + 1, 1_000_000_000),
  }),
  fc.record({ do: fc.constant("remove" as const), at: fc.nat() }),
  fc.record({ do: fc.constant("drop" as const), at: fc.nat(3) }),
);

test("sums and repeated numbers are those of a plain list, whatever is inserted, removed and dropped", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const weights: number[] = [];
      const sums = new Sums();
      const numbers = new Repeated();
      for (const action of steps) {
        const { length } = weights;
        if (action.do === "insert") {
          const i = action.at % (length + 1);
          sums.insert(i, action.weight, length);
          numbers.insert(i, action.weight, length);
          weights.splice(i, 0, action.weight);
        } else if (action.do === "remove" && length > 0) {
          sums.remove(action.at % length);
          numbers.remove(action.at % length);
          weights.splice(action.at % length, 1);
        } else if (action.do === "drop") {
          const count = Math.min(action.at, length);
          sums.dropFirst(count);
          numbers.dropFirst(count);
          weights.splice(0, count);
        }
        expect(weights.map((_, i) => sums.weightOf(i))).toEqual(weights);
        expect(weights.map((_, i) => numbers.at(i))).toEqual(weights);
        for (const [head] of weights.entries()) {
          const total = sums.before(weights.length) - sums.before(head);
          for (const weight of [1, total - 1, total].filter((weight) => weight > 0 && weight <= total)) {
            const enough = weights.findIndex((_, i) => i >= head && sums.before(i + 1) - sums.before(head) >= weight);
            expect(sums.leaving(head, weight, weights.length)).toBe(enough);
          }
        }
      }
    }),
  );
});

test("events that all weigh 1 take no memory for their sums, until one weighs otherwise", () => {
  const sums = new Sums();
  for (let i = 0; i < 10; i++) sums.insert(i, 1, i);
  expect(sums.bytesEach).toBe(0);
  sums.insert(10, 2, 10);
  expect(sums.bytesEach).toBeGreaterThan(0);
  expect(sums.before(11)).toBe(12);
});
