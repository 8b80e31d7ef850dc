import { expect, test } from "vitest";
import { secondEvents } from "../scripts/torture/second-events";

test("the judge of the torture tells an id that a kill has torn from one that was charged twice", () => {
  const kill = { fromMs: 1_000, toMs: 2_000 };
  const judged = (...events: [id: string, atMs: number][]) =>
    secondEvents(
      events.map(([id, atMs]) => ({ id, at: new Date(atMs).toISOString() })),
      [kill],
    );
  expect(judged(["b", 2_500], ["a", 500])).toEqual({ torn: 0, twice: 0 });
  expect(judged(["a", 2_500], ["a", 500])).toEqual({ torn: 1, twice: 0 });
  expect(judged(["a", 900], ["a", 500])).toEqual({ torn: 0, twice: 1 });
  expect(judged(["a", 2_600], ["a", 2_500], ["a", 500])).toEqual({ torn: 1, twice: 1 });
});
