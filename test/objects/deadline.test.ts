import { describe, expect, test } from "vitest";
import { callWithin } from "../../src/objects/deadline";
import { sharingTimers, type Timing } from "../../src/objects/timing";

/** Time that a test moves, with all timers that are set. */
function manualTime() {
  const timers = new Map<() => void, number>();
  const clock = { ms: 0, timers };
  const timing: Timing = {
    now: () => clock.ms,
    random: () => 0,
    after(ms, work) {
      timers.set(work, clock.ms + ms);
      return () => timers.delete(work);
    },
  };
  const moveTo = (ms: number) => {
    clock.ms = ms;
    for (const [work, atMs] of timers) if (atMs <= ms && timers.delete(work)) work();
  };
  return { clock, shared: sharingTimers(timing), moveTo };
}

test("work that is due in the same millisecond shares a timer, and is called when it is due", () => {
  const { clock, shared, moveTo } = manualTime();
  const called: string[] = [];
  shared.after(10, () => called.push("a"));
  shared.after(10, () => called.push("b"));
  shared.after(11, () => called.push("c"));
  expect(clock.timers.size).toBe(2);
  moveTo(9);
  expect(called).toEqual([]);
  moveTo(10);
  expect(called).toEqual(["a", "b"]);
  moveTo(11);
  expect(called).toEqual(["a", "b", "c"]);
});

test("cancelled work is not called, and the timer goes with the last work of it", () => {
  const { clock, shared, moveTo } = manualTime();
  const called: string[] = [];
  const cancels = ["a", "b"].map((name) => shared.after(10, () => called.push(name)));
  cancels[0]?.();
  expect(clock.timers.size).toBe(1);
  cancels[1]?.();
  expect(clock.timers.size).toBe(0);
  shared.after(10, () => called.push("c"));
  cancels[1]?.();
  moveTo(10);
  expect(called).toEqual(["c"]);
});

describe("a call that failed", () => {
  /** How often a call that always fails is tried within a deadline of 1,000 ms, on a clock that jumps to each timer. */
  async function triesOf(properties: object): Promise<number> {
    let nowMs = 0;
    const timing: Timing = {
      now: () => nowMs,
      random: () => 0.5,
      after(ms, work) {
        // The deadline of a try is cancelled, since the call fails at once.
        const jump = setImmediate(() => {
          nowMs += ms;
          work();
        });
        return () => clearImmediate(jump);
      },
    };
    let tries = 0;
    const call = () => {
      tries += 1;
      return Promise.reject(Object.assign(new Error("failed"), properties));
    };
    await expect(callWithin(1_000, call, timing)).rejects.toThrow("failed");
    return tries;
  }

  test.each([
    ["the runtime says that it may be retried", { retryable: true }],
    ["the object was reset", { durableObjectReset: true }],
    ["the object was reset, and the runtime does not say retryable", { durableObjectReset: true, retryable: false }],
  ])("is retried within its deadline if %s", async (_, properties) => {
    expect(await triesOf(properties)).toBe(6);
  });

  test.each([
    ["the error has no properties", {}],
    ["the object's own code failed", { remote: true }],
    ["the object is overloaded", { overloaded: true, retryable: true }],
    ["the object is overloaded and was reset", { overloaded: true, durableObjectReset: true }],
    ["a property is not the boolean true", { durableObjectReset: "true" }],
  ])("is not retried if %s", async (_, properties) => {
    expect(await triesOf(properties)).toBe(1);
  });
});
