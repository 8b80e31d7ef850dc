import { describe, expect, test } from "vitest";
import { seriesOf, totalsByPolicy } from "../../console/series";
import type { Count, Stats } from "../../console/wire";

const NOW_MS = Date.parse("2026-11-24T20:31:40.000Z");

function stats(minutes: Record<string, Count[]>): Stats {
  const list = Object.entries(minutes).map(([time, counts]) => ({ at: `2026-11-24T${time}:00.000Z`, counts }));
  return { minutes: list, denied_keys: [], error_at_most: 0 };
}

const decisions = (count: number, outcome: Count["outcome"] = "allowed", policy = "chat"): Count => ({
  policy,
  layer: null,
  outcome,
  count,
});

describe("decisions per minute", () => {
  test("are in their minute, the current minute last, and minutes without decisions are 0", () => {
    const counted = stats({
      "20:28": [decisions(9)],
      "20:29": [decisions(3)],
      "20:31": [decisions(4), decisions(2, "denied")],
    });
    const { startsAtSeconds, rates } = seriesOf(counted, null, { minutes: 3, minutesEach: 1 }, NOW_MS);
    expect(startsAtSeconds.map((seconds) => new Date(seconds * 1_000).toISOString().slice(11, 16))).toEqual([
      "20:29",
      "20:30",
      "20:31",
    ]);
    expect([rates.allowed, rates.denied]).toEqual([
      [3, 0, 4],
      [0, 0, 2],
    ]);
  });

  test("are the mean of a bucket of several minutes", () => {
    const counted = stats({ "20:14": [decisions(15)], "20:15": [decisions(30)], "20:29": [decisions(15)] });
    const { rates } = seriesOf(counted, null, { minutes: 30, minutesEach: 15 }, NOW_MS);
    expect(rates.allowed).toEqual([3, 0]);
  });

  test("are of one policy or of all, and count a decision once, however many layers denied it", () => {
    const denials = [
      decisions(2, "denied"),
      { ...decisions(2, "denied"), layer: "caller" },
      decisions(5, "denied", "upload"),
    ];
    const of = (policy: string | null) =>
      seriesOf(stats({ "20:31": denials }), policy, { minutes: 1, minutesEach: 1 }, NOW_MS).rates.denied;
    expect([of(null), of("chat"), of("upload"), of("other")]).toEqual([[7], [2], [5], [0]]);
  });
});

test("totals add up all minutes of a policy, the busiest policy first", () => {
  const counted = stats({
    "20:30": [decisions(1), decisions(2, "denied")],
    "20:31": [decisions(1), decisions(50, "allowed", "upload"), { ...decisions(9, "denied"), layer: "ip" }],
  });
  const totals = totalsByPolicy(counted);
  expect(totals.map(([policy, { allowed, denied, error }]) => [policy, allowed, denied, error])).toEqual([
    ["upload", 50, 0, 0],
    ["chat", 2, 2, 0],
  ]);
});
