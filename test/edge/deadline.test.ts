import { expect, test } from "vitest";
import { sharingTimers, type Timing } from "../../src/edge/deadline";

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
