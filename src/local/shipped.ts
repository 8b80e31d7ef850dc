import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { WorkerOptions } from "miniflare";
import type { Parts } from "./parts";

/** The built files, beside the folder of the bundle that has this code. */
const DIST = resolve(import.meta.dirname, "..");

/** The files in `dist/service`: `scripts/build.ts` writes them. */
export const SHIPPED = { options: "options.json", worker: "worker.js", testClock: "test-clock.js" } as const;

/** The options of the Worker in the `wrangler.toml` that the package was built with. */
export function shippedWorkerOptions(): Partial<WorkerOptions> {
  const { assets, ...options } = JSON.parse(read(SHIPPED.options)) as Partial<WorkerOptions>;
  return { ...options, ...(assets && { assets: { ...assets, directory: join(DIST, "console") } }) };
}

/** The parts of the service that the package ships. */
export function shippedParts(hasTestClock: boolean): Parts {
  return {
    workerOptions: shippedWorkerOptions(),
    script: read(hasTestClock ? SHIPPED.testClock : SHIPPED.worker),
  };
}

function read(name: string): string {
  return readFileSync(join(DIST, "service", name), "utf8");
}
