import { describe, expect, test } from "vitest";
import { callWithin, sharingTimers, type Timing } from "../../src/objects/deadline";

/** Time that moves when it is told to, and every timer that was asked of it. */
function byHand() {
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

test("what is due in the same millisecond has one timer, and is called when it is due", () => {
  const { clock, shared, moveTo } = byHand();
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

test("what was cancelled is not called, and the timer goes with the last of its works", () => {
  const { clock, shared, moveTo } = byHand();
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
  /** How often a call is made that always fails like this, with a deadline of a second and a clock that jumps to each timer. */
  async function triesOf(said: object): Promise<number> {
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
      return Promise.reject(Object.assign(new Error("failed"), said));
    };
    await expect(callWithin(1_000, call, timing)).rejects.toThrow("failed");
    return tries;
  }

  test.each([
    ["the runtime says that it may be retried", { retryable: true }],
    ["the object was reset", { durableObjectReset: true }],
    ["the object was reset, and the runtime does not say retryable", { durableObjectReset: true, retryable: false }],
  ])("is retried within its deadline where %s", async (_, said) => {
    expect(await triesOf(said)).toBe(6);
  });

  test.each([
    ["nothing is said", {}],
    ["the object's own code failed", { remote: true }],
    ["the object is overloaded", { overloaded: true, retryable: true }],
    ["the object is overloaded and was reset", { overloaded: true, durableObjectReset: true }],
    ["what is said is not true", { durableObjectReset: "true" }],
  ])("is not retried where %s", async (_, said) => {
    expect(await triesOf(said)).toBe(1);
  });
});
