import fc from "fast-check";
import { expect, test } from "vitest";
import { caseOf } from "../scripts/fuzz/cases";
import { mistakesInReading, VARIABLES } from "../scripts/fuzz/configuration";

const SEED = 20_261_124;

test("any variables are read as a configuration, or refused with a list of mistakes", () => {
  const isRight = fc.property(VARIABLES, (variables) => {
    expect(mistakesInReading(variables)).toEqual([]);
  });
  fc.assert(isRight, { numRuns: 2_000 });
});

test("the same seed and number make the same bytes, so that a failure can be repeated", () => {
  const cases = (seed: number) => Array.from({ length: 50 }, (_, i) => caseOf(seed, i));
  expect(cases(SEED)).toEqual(cases(SEED));
  expect(cases(SEED)).not.toEqual(cases(SEED + 1));
});
