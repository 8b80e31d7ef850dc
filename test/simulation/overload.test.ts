import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Breakers } from "../../src/objects/breakers";
import { CAPACITY, MAX, overloadOneObject, SECONDS, type Second, USERS, WINDOW_MS } from "./overload";

beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

const sumOf = (seconds: readonly Second[], field: keyof Second) =>
  seconds.reduce((sum, second) => sum + second[field], 0);

test("an object at three times its capacity does most of what it can, recovers by itself, and admits nobody too much", async () => {
  const { seconds, told, admittedAtMs } = await overloadOneObject();
  const overload = seconds.slice(SECONDS.before + 1, SECONDS.before + SECONDS.overload);
  const after = seconds.slice(SECONDS.before + SECONDS.overload + 1);
  expect(sumOf(overload, "decided") / overload.length).toBeGreaterThan(0.8 * CAPACITY);
  // It refuses far fewer calls than would reach it without breakers: all that it can't take.
  expect(sumOf(overload, "overloaded")).toBeLessThan(0.1 * sumOf(overload, "asked"));
  expect(sumOf(after, "decided")).toBe(sumOf(after, "asked"));
  expect(sumOf(after, "overloaded")).toBe(0);

  let admitted = 0;
  for (const times of admittedAtMs.values()) {
    admitted += times.length;
    for (const [i, atMs] of times.entries())
      expect(atMs - (times[i - MAX] ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(WINDOW_MS);
  }
  expect(admitted).toBeGreaterThan(USERS * MAX);
  expect(told).toBe(admitted);
});

test("without breakers the object is called for everything that it can't take", async () => {
  vi.spyOn(Breakers.prototype, "admits").mockReturnValue(true);
  const { seconds } = await overloadOneObject();
  const overload = seconds.slice(SECONDS.before + 1, SECONDS.before + SECONDS.overload);
  expect(sumOf(overload, "overloaded")).toBeGreaterThan(0.5 * sumOf(overload, "asked"));
});
