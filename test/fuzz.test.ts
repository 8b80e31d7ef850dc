import { expect, test } from "vitest";
import { caseOf } from "../scripts/fuzz/cases";
import { mistakesInReading, variablesOf } from "../scripts/fuzz/configuration";

const SEED = 20_261_124;

test("a configuration is read, or refused with a list of its mistakes, whatever is set", () => {
  for (let i = 0; i < 2_000; i++) {
    const variables = variablesOf(SEED, i);
    expect([i, variables, mistakesInReading(variables)]).toEqual([i, variables, []]);
  }
});

test("the same seed and number are the same bytes, so that a failure of the fuzzer can be repeated", () => {
  const bytes = (seed: number) => Array.from({ length: 50 }, (_, i) => caseOf(seed, i));
  expect(bytes(SEED)).toEqual(bytes(SEED));
  expect(bytes(SEED)).not.toEqual(bytes(SEED + 1));
});
