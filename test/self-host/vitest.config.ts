import { defineConfig } from "vitest/config";

// Not part of `npm test`: these tests need root, the package registries and Debian's packages.
export default defineConfig({
  test: {
    name: "self-host",
    root: import.meta.dirname,
    include: ["*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 180_000,
  },
});
