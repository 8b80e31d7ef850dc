import { describe, expect, test } from "vitest";
import { LONGEST_WINDOW_MS, limitText, longestWindowMs, parseLimit } from "../../src/core/limit";

describe("reads a limit", () => {
  test.each([
    ["5/minute", 5, 60_000],
    ["1/second", 1, 1_000],
    ["60 per hour", 60, 3_600_000],
    ["100000 per 1 day", 100_000, 86_400_000],
    ["2 per 5 seconds", 2, 5_000],
    ["10/2 minutes", 10, 120_000],
    [" 7 / HOUR ", 7, 3_600_000],
    ["1000000000 per 31 days", 1_000_000_000, LONGEST_WINDOW_MS],
    ["5/week", 5, 7 * 86_400_000],
    ["5 per 4 weeks", 5, 28 * 86_400_000],
    ["5 per month", 5, 30 * 86_400_000],
    ["5 PER 1 Months", 5, 30 * 86_400_000],
    ["3 PER 1 Seconds", 3, 1_000],
  ])("%s", (text, max, windowMs) => {
    expect(parseLimit(text)).toEqual({ max, windowMs });
  });

  test.each([
    ["2 concurrent per 5 minutes", 2, 300_000],
    ["2 concurrent/minute", 2, 60_000],
    ["1  Concurrent / 31 days", 1, LONGEST_WINDOW_MS],
    ["1000000000 concurrent per second", 1_000_000_000, 1_000],
    ["3 concurrent/month", 3, 30 * 86_400_000],
  ])("%s, as a concurrent limit", (text, max, windowMs) => {
    expect(parseLimit(text)).toEqual({ kind: "concurrent", max, windowMs });
  });
});

describe("refuses a text that is no limit, and says why", () => {
  test.each([
    ["", /write it like/],
    ["5", /write it like/],
    ["5/fortnight", /write it like/],
    ["five/minute", /write it like/],
    ["-5/minute", /write it like/],
    ["5.5/minute", /write it like/],
    ["5perminute", /write it like/],
    ["5/minute, 6/hour", /write it like/],
    ["2concurrent/minute", /write it like/],
    ["2 concurrents/minute", /write it like/],
    ["2 concurrent", /write it like/],
    ["concurrent/minute", /write it like/],
    ["0/minute", /from 1 to 1000000000/],
    ["0 concurrent/minute", /from 1 to 1000000000/],
    ["1000000001 concurrent/minute", /from 1 to 1000000000/],
    ["1 concurrent per 32 days", /from 1 second to 31 days/],
    ["1000000001/minute", /from 1 to 1000000000/],
    ["1 per 0 seconds", /from 1 second to 31 days/],
    ["1 per 32 days", /from 1 second to 31 days/],
    ["1 per 5 weeks", /from 1 second to 31 days/],
    ["1 per 2 months", /from 1 second to 31 days/],
    ["1/year", /from 1 second to 31 days/],
    ["1 per 2678401 seconds", /from 1 second to 31 days/],
    ["1 per 99999999999999999999999 days", /from 1 second to 31 days/],
  ])("%j", (text, why) => {
    expect(() => parseLimit(text)).toThrow(why);
  });
});

test.each([
  ["white space behind the number", (n: number) => `5${" ".repeat(n)}x`],
  ["white space in front of the unit", (n: number) => `5 per ${" ".repeat(n)}x`],
  ["white space around the word", (n: number) => `5${"\t".repeat(n)}per${"\n".repeat(n)}x`],
  ["white space behind concurrent", (n: number) => `5 concurrent${" ".repeat(n)}x`],
  ["white space behind all of it", (n: number) => `5/minute${" ".repeat(n)}x`],
  ["digits", (n: number) => `${"1".repeat(n)}x`],
  ["digits in front of the unit", (n: number) => `5 per ${"1".repeat(n)} x`],
  ["digits and white space in turn", (n: number) => `5 per ${"1 ".repeat(n)}x`],
])("refuses a long text in linear time: %s", (_, textOf) => {
  const text = textOf(100_000);
  const beganMs = performance.now();
  expect(() => parseLimit(text)).toThrow(/write it like/);
  // Linear time takes a few milliseconds, quadratic time many seconds.
  expect(performance.now() - beganMs).toBeLessThan(1_000);
});

test("reads a limit with any amount of white space", () => {
  const space = " \t\n".repeat(10_000);
  expect(parseLimit(`${space}2${space}per${space}5${space}minutes${space}`)).toEqual({ max: 2, windowMs: 300_000 });
});

test("finds the longest window of several limits", () => {
  expect(longestWindowMs([parseLimit("5/minute"), parseLimit("60/hour"), parseLimit("1/second")])).toBe(3_600_000);
});

test.each([
  "5/minute",
  "1/second",
  "600 per 2 hours",
  "2 per 90 seconds",
  "7/day",
  "10 per 31 days",
  "10/week",
  "10 per 4 weeks",
  "10/month",
  "2 concurrent/minute",
  "3 concurrent per 5 minutes",
])("writes a limit as it reads it: %s", (text) => {
  expect(limitText(parseLimit(text))).toBe(text);
});
