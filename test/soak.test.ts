import { expect, test } from "vitest";
import { judge, newVerdict, type Wish } from "../scripts/soak/observations";

test("the soak's judge sees an event too many, one that is lost, and one that is charged twice", () => {
  const at = (second: number) => new Date(second * 1_000).toISOString();
  const wish = (id: string): Wish => ({ id, user: "u", ip: "10.0.0.1", cost: 1, outcome: "admitted", firsts: 1 });
  const counter = (events: [id: string, second: number][]) => ({
    layer: "caller",
    events_total: events.length,
    events: events.map(([id, second]) => ({ id, at: at(second), cost: 1 })),
    limits: [{ window_seconds: 10, limit: 2, used: events.length }],
  });
  const judged = (events: [string, number][], wishes = ["a", "b", "c"].map(wish)) => {
    const verdict = newVerdict();
    judge(counter(events), "user:u", wishes, true, verdict);
    return [verdict.overAdmissions, verdict.lost, verdict.chargedTwice];
  };
  // The one at the window's far end has just left it.
  expect(
    judged([
      ["a", 0],
      ["b", 9],
      ["c", 10],
    ]),
  ).toEqual([0, 0, 0]);
  expect(
    judged([
      ["a", 1],
      ["b", 9],
      ["c", 10],
    ]),
  ).toEqual([1, 0, 0]);
  expect(
    judged([
      ["a", 0],
      ["b", 20],
    ]),
  ).toEqual([0, 1, 0]);
  expect(
    judged([
      ["a", 0],
      ["b", 20],
      ["c", 40],
      ["c", 60],
    ]),
  ).toEqual([0, 0, 1]);
  expect(
    judged([
      ["a", 0],
      ["b", 20],
      ["c", 40],
      ["d", 60],
    ]),
  ).toEqual([0, 0, 1]);
  expect(judged([["a", 0]], [{ ...wish("a"), firsts: 2 }])).toEqual([0, 0, 1]);
  expect(judged([["a", 0]], [{ ...wish("a"), settled: 0 }])).toEqual([0, 1, 0]);
});
