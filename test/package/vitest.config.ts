import { defineConfig } from "vitest/config";

// Not part of `npm test`: these tests need the package registries.
export default defineConfig({
  test: {
    name: "package",
    root: import.meta.dirname,
    include: ["*.test.ts"],
    // They wait for processes and registries more than they work.
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
