export { type StartOptions, startLimiter, type TestLimiter } from "./start.js";
export { limiterTest, test } from "./vitest.js";
