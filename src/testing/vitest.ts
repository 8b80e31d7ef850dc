import { test as base } from "vitest";
import { type StartOptions, startLimiter, type TestLimiter } from "./start.js";

/** Time to start the service, on a busy machine. */
const START_MS = 60_000;

const CONCURRENT =
  "A concurrent test can't use `limiter`: its tests share one service, which each of them resets. Use `test` instead of " +
  "`test.concurrent`, or put the test into a file of its own, or start a service for it with `startLimiter()`.";

/**
 * Vitest's `test` with a fixture `limiter`: a real limiter on a clock that tests move. A Vitest worker runs one service
 * for all of its tests. A test that uses `limiter` starts without counters. Such tests can't be concurrent: the reset
 * of a test would delete the counters of the others.
 */
export function limiterTest(options: StartOptions) {
  const test = base
    // biome-ignore lint/correctness/noEmptyPattern: Vitest reads the fixtures that are used from the pattern: none here.
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
  // Without this hook the service would start within the first test, and use up its timeout. The first use adds the
  // hook, so that an unused import starts nothing.
  let hasHook = false;
  const withHook = () => {
    if (!hasHook) test.beforeAll(({ runningLimiter }) => void runningLimiter, START_MS);
    hasHook = true;
    return test;
  };
  return new Proxy(test, {
    apply: (_, self, args) => Reflect.apply(withHook(), self, args),
    get: (_, name) => Reflect.get(withHook(), name),
  });
}

/**
 *     test("the sixth waits a minute", async ({ limiter }) => {
 *       …
 *       await limiter.advance({ seconds: 60 });
 *     });
 */
export const test = limiterTest({});
