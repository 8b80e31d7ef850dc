import fc from "fast-check";
import { expect, test } from "vitest";
import { caseOf } from "../scripts/fuzz/cases";
import { mistakesInReading, VARIABLES } from "../scripts/fuzz/configuration";

const SEED = 20_261_124;

test("a configuration is read, or refused with a list of its mistakes, whatever is set", () => {
  const isRight = fc.property(VARIABLES, (variables) => {
    expect(mistakesInReading(variables)).toEqual([]);
  });
  fc.assert(isRight, { numRuns: 2_000 });
});

test("the same seed and number are the same bytes, so that a failure of the fuzzer can be repeated", () => {
  const bytes = (seed: number) => Array.from({ length: 50 }, (_, i) => caseOf(seed, i));
  expect(bytes(SEED)).toEqual(bytes(SEED));
  expect(bytes(SEED)).not.toEqual(bytes(SEED + 1));
});
