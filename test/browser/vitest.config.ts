import { defineConfig } from "vitest/config";

// Not part of `npm test`: these tests need Python and a browser, and install what is missing.
export default defineConfig({
  test: {
    name: "browser",
    root: import.meta.dirname,
    include: ["*.test.ts"],
    globalSetup: "install.ts",
    // A browser and a service wait for each other more than they work.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 90_000,
  },
});
