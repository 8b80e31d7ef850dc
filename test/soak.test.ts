import { expect, test } from "vitest";
import { judge, newVerdict, type TrackedRequest } from "../scripts/soak/judge";

test("the judge of the soak finds an over-admission, a lost event and a double charge", () => {
  const at = (second: number) => new Date(second * 1_000).toISOString();
  const request = (id: string): TrackedRequest => ({
    id,
    user: "u",
    ip: "10.0.0.1",
    cost: 1,
    outcome: "admitted",
    firstAnswers: 1,
  });
  const counter = (events: [id: string, second: number][]) => ({
    layer: "caller",
    events_total: events.length,
    events: events.map(([id, second]) => ({ id, at: at(second), cost: 1 })),
    limits: [{ window_seconds: 10, limit: 2, used: events.length }],
  });
  const judged = (events: [string, number][], requests = ["a", "b", "c"].map(request)) => {
    const verdict = newVerdict();
    judge(counter(events), "user:u", requests, true, verdict);
    return [verdict.overAdmissions, verdict.lost, verdict.chargedTwice];
  };
  // Event a has just left the window.
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
  expect(judged([["a", 0]], [{ ...request("a"), firstAnswers: 2 }])).toEqual([0, 0, 1]);
  expect(judged([["a", 0]], [{ ...request("a"), settledCost: 0 }])).toEqual([0, 1, 0]);
});
