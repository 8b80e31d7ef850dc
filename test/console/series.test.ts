import { describe, expect, test } from "vitest";
import { seriesOf, totalsByPolicy } from "../../console/series";
import type { Count, Stats } from "../../console/wire";

const NOW_MS = Date.parse("2026-11-24T20:31:40.000Z");

function stats(minutes: Record<string, Count[]>): Stats {
  const list = Object.entries(minutes).map(([time, counts]) => ({ at: `2026-11-24T${time}:00.000Z`, counts }));
  return { minutes: list, denied_keys: [], error_at_most: 0 };
}

const decided = (count: number, outcome: Count["outcome"] = "allowed", policy = "chat"): Count => ({
  policy,
  layer: null,
  outcome,
  count,
});

describe("decisions per minute", () => {
  test("stand in their minute, the present one last, and minutes without any are empty", () => {
    const counted = stats({
      "20:28": [decided(9)],
      "20:29": [decided(3)],
      "20:31": [decided(4), decided(2, "denied")],
    });
    const { at, rates } = seriesOf(counted, null, { minutes: 3, minutesEach: 1 }, NOW_MS);
    expect(at.map((seconds) => new Date(seconds * 1_000).toISOString().slice(11, 16))).toEqual([
      "20:29",
      "20:30",
      "20:31",
    ]);
    expect([rates.allowed, rates.denied]).toEqual([
      [3, 0, 4],
      [0, 0, 2],
    ]);
  });

  test("over longer stretches are the mean of each", () => {
    const counted = stats({ "20:14": [decided(15)], "20:15": [decided(30)], "20:29": [decided(15)] });
    const { rates } = seriesOf(counted, null, { minutes: 30, minutesEach: 15 }, NOW_MS);
    expect(rates.allowed).toEqual([3, 0]);
  });

  test("are of one policy, or of all, and count a decision once whatever layers denied it", () => {
    const denials = [
      decided(2, "denied"),
      { ...decided(2, "denied"), layer: "caller" },
      decided(5, "denied", "upload"),
    ];
    const of = (policy: string | null) =>
      seriesOf(stats({ "20:31": denials }), policy, { minutes: 1, minutesEach: 1 }, NOW_MS).rates.denied;
    expect([of(null), of("chat"), of("upload"), of("other")]).toEqual([[7], [2], [5], [0]]);
  });
});

test("totals of a policy add up all minutes, the busiest policy first", () => {
  const counted = stats({
    "20:30": [decided(1), decided(2, "denied")],
    "20:31": [decided(1), decided(50, "allowed", "upload"), { ...decided(9, "denied"), layer: "ip" }],
  });
  const totals = totalsByPolicy(counted);
  expect(totals.map(([policy, { allowed, denied, error }]) => [policy, allowed, denied, error])).toEqual([
    ["upload", 50, 0, 0],
    ["chat", 2, 2, 0],
  ]);
});
