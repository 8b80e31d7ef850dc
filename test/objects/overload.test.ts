import { expect, test, vi } from "vitest";
import { Breakers } from "../../src/objects/breakers";
import { callWithin } from "../../src/objects/deadline";
import type { Timing } from "../../src/objects/timing";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";

vi.spyOn(console, "error").mockImplementation(() => {});

const OVERLOADED = Object.assign(new Error("Durable Object is overloaded."), { overloaded: true, retryable: true });
const ACCOUNT_BUSY = Object.assign(
  new Error("Your account is generating too much load on Durable Objects. Please back off and try again later."),
  { overloaded: true },
);

/** Breakers on a clock that a test moves, without jitter. */
function breakersAt(random = 0.5) {
  const timing = { nowMs: 1_000_000, now: () => timing.nowMs, random: () => random, after: () => () => {} };
  const breakers = new Breakers(timing satisfies Timing);
  return { breakers, timing };
}

test("an object that is overloaded is left alone for a pause with jitter, and others are not", () => {
  for (const [random, pauseMs] of [
    [0, 125],
    [0.5, 250],
    [0.999, 375],
  ] as const) {
    const { breakers, timing } = breakersAt(random);
    breakers.onError("shard:1", timing.nowMs, OVERLOADED);
    timing.nowMs += pauseMs - 1;
    expect([breakers.admits("shard:1"), breakers.admits("shard:2")]).toEqual([false, true]);
    timing.nowMs += 1;
    expect(breakers.admits("shard:1")).toBe(true);
  }
});

test("after each pause one call is let through, until an answer closes the breaker", () => {
  const { breakers, timing } = breakersAt();
  breakers.onError("shard:1", timing.nowMs, OVERLOADED);
  for (let probe = 0; probe < 3; probe++) {
    timing.nowMs += 250;
    // The first probe may never be answered: another one follows.
    expect([1, 2, 3].map(() => breakers.admits("shard:1"))).toEqual([true, false, false]);
  }
  breakers.onAnswer("shard:1", timing.nowMs);
  expect([1, 2, 3].map(() => breakers.admits("shard:1"))).toEqual([true, true, true]);
});

test("the pause doubles up to a second while probes find the object overloaded, and is short again after an answer", () => {
  const { breakers, timing } = breakersAt();
  const pauses: number[] = [];
  for (let i = 0; i < 4; i++) {
    breakers.onError("shard:1", timing.nowMs, OVERLOADED);
    const sinceMs = timing.nowMs;
    while (!breakers.admits("shard:1")) timing.nowMs++;
    pauses.push(timing.nowMs - sinceMs);
  }
  expect(pauses).toEqual([250, 500, 1_000, 1_000]);
  breakers.onAnswer("shard:1", timing.nowMs);
  timing.nowMs++;
  breakers.onError("shard:1", timing.nowMs, OVERLOADED);
  timing.nowMs += 250;
  expect(breakers.admits("shard:1")).toBe(true);
});

test("messages that were sent before the breaker opened neither close it nor lengthen its pause", () => {
  const { breakers, timing } = breakersAt();
  const sentAtMs = timing.nowMs;
  timing.nowMs += 10;
  breakers.onError("shard:1", sentAtMs, OVERLOADED);
  timing.nowMs += 5;
  breakers.onError("shard:1", sentAtMs, OVERLOADED);
  breakers.onAnswer("shard:1", sentAtMs);
  expect(breakers.admits("shard:1")).toBe(false);
  timing.nowMs += 245;
  expect(breakers.admits("shard:1")).toBe(true);
});

test("an object is called again when the clock goes back, and is left alone if it is still overloaded", () => {
  const { breakers, timing } = breakersAt();
  breakers.onError("shard:1", timing.nowMs, OVERLOADED);
  timing.nowMs -= 3_600_000;
  expect([1, 2].map(() => breakers.admits("shard:1"))).toEqual([true, true]);
  breakers.onError("shard:1", timing.nowMs, OVERLOADED);
  expect(breakers.admits("shard:1")).toBe(false);
  timing.nowMs += 250;
  expect(breakers.admits("shard:1")).toBe(true);
});

test("other errors open no breaker", () => {
  const { breakers, timing } = breakersAt();
  for (const error of [
    new Error("broken"),
    Object.assign(new Error("lost"), { retryable: true }),
    ACCOUNT_BUSY,
    undefined,
  ])
    breakers.onError("shard:1", timing.nowMs, error);
  expect(breakers.admits("shard:1")).toBe(true);
});

test("at most 1,000 objects are left alone; the one that was overloaded first is called again", () => {
  const { breakers, timing } = breakersAt();
  for (let i = 0; i <= 1_000; i++) breakers.onError(`user:${i}`, timing.nowMs, OVERLOADED);
  expect(["user:0", "user:1", "user:1000"].map((object) => breakers.admits(object))).toEqual([true, false, false]);
});

test("a call is retried with back-off from 100 ms when the account makes too much load, until the deadline", async () => {
  const scheduler = new Scheduler(new Chance(1));
  const timing = { now: scheduler.now, random: () => 0.5, after: scheduler.after.bind(scheduler) };
  const startMs = scheduler.nowMs;
  const triesMs: number[] = [];
  const calling = callWithin(
    1_000,
    async () => {
      triesMs.push(scheduler.nowMs - startMs);
      throw ACCOUNT_BUSY;
    },
    timing,
  );
  const failed = expect(calling).rejects.toBe(ACCOUNT_BUSY);
  await scheduler.run();
  await failed;
  expect(triesMs).toEqual([0, 100, 300, 700]);
});
