import { test as base } from "vitest";
import { type StartOptions, startLimiter, type TestLimiter } from "./start.js";

/** How long the service may take to start on a machine that is busy. */
const START_MS = 60_000;

const CONCURRENT =
  "A concurrent test can't use `limiter`: its tests share one service, which each of them resets. Use `test` instead of " +
  "`test.concurrent`, or put the test into a file of its own, or start a service for it with `startLimiter()`.";

/**
 * Vitest's `test` with a real limiter on a clock that tests move, which runs with the variables given. One service runs
 * for all tests of a worker; each test that asks for `limiter` begins with no counters. So none of them may be concurrent:
 * the reset of one would take the counters of the others.
 */
export function limiterTest(options: StartOptions) {
  const test = base
    // biome-ignore lint/correctness/noEmptyPattern: Vitest reads the pattern to learn what is asked for, here nothing.
    .extend("runningLimiter", { scope: "worker" }, async ({}, { onCleanup }): Promise<TestLimiter> => {
      const limiter = await startLimiter(options);
      onCleanup(() => limiter.stop());
      return limiter;
    })
    .extend("limiter", async ({ runningLimiter, task }) => {
      if (task.concurrent) throw new Error(CONCURRENT);
      await runningLimiter.reset();
      return runningLimiter;
    });
  // By itself it would start within the first test, at the expense of that test's timeout. Hooked in at the first use:
  // who imports this and does not use it shall start nothing.
  let isUsed = false;
  const used = () => {
    if (!isUsed) test.beforeAll(({ runningLimiter }) => void runningLimiter, START_MS);
    isUsed = true;
    return test;
  };
  return new Proxy(test, {
    apply: (_, self, args) => Reflect.apply(used(), self, args),
    get: (_, name) => Reflect.get(used(), name),
  });
}

/**
 *     test("the sixth waits a minute", async ({ limiter }) => {
 *       …
 *       await limiter.advance({ seconds: 60 });
 *     });
 */
export const test = limiterTest({});
