import { expect, test } from "vitest";
import { parseLimits, replay } from "../../console/replay";

const events = (...atMs: number[]) => atMs.map((atMs, i) => ({ id: `e${i}`, atMs, cost: 1 }));
const denied = (text: string, ...atMs: number[]) =>
  replay(events(...atMs), parseLimits(text))
    .filter(({ allowed }) => !allowed)
    .map(({ event }) => event.atMs);

test("a replay decides as the service does, also at the edge of the window", () => {
  expect(denied("2/minute", 0, 1, 59_999, 60_000, 60_001)).toEqual([59_999]);
  expect(denied("3/minute", 0, 1, 59_999, 60_000, 60_001)).toEqual([]);
});

test("a denied event counts nothing, so that a later event may fit", () => {
  expect(denied("1 per 10 seconds", 0, 9_999, 10_000)).toEqual([9_999]);
});

test("an event is denied if one of several limits denies it", () => {
  expect(denied("2 per second, 3 per minute", 0, 1, 2, 1_000, 1_001)).toEqual([2, 1_001]);
});

test("a cost above a limit is denied, and a cost equal to it is admitted", () => {
  const [event] = events(0);
  const ofCost = (cost: number) => replay([{ id: "e", atMs: 0, ...event, cost }], parseLimits("2/minute"));
  expect([ofCost(2), ofCost(3)].map(([replayed]) => replayed?.allowed)).toEqual([true, false]);
});

test("an event is decided by its cost at admission, and counts its settled cost", () => {
  const settled = [
    { id: "a", atMs: 0, cost: 1, admittedCost: 4 },
    { id: "b", atMs: 1, cost: 0, admittedCost: 3 },
    { id: "c", atMs: 2, cost: 9, admittedCost: 2 },
    { id: "d", atMs: 3, cost: 1 },
  ];
  const allowedAt = (text: string) => replay(settled, parseLimits(text)).map(({ allowed }) => allowed);
  expect(allowedAt("3/minute")).toEqual([false, true, true, false]);
  expect(allowedAt("4/minute")).toEqual([true, true, true, false]);
  expect(allowedAt("3/minute, 2 per 2 minutes")).toEqual([false, false, true, false]);
});

test("an invalid text is refused with a reason", () => {
  expect(() => parseLimits("5/minute, lots")).toThrow(/^"lots" is not a limit/);
  expect(() => parseLimits("2 concurrent per minute")).toThrow("is a concurrent limit");
});
