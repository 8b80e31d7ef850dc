import { defineConfig } from "vitest/config";

// Not part of `npm test`: these tests need nginx and Caddy, and unpack what is missing.
export default defineConfig({
  test: {
    name: "proxies",
    root: import.meta.dirname,
    include: ["*.test.ts"],
    globalSetup: "programs.ts",
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
