import { join, resolve } from "node:path";
import type { WorkerOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions as miniflareWorkerOptions } from "wrangler";
import { bundle } from "./bundle";
import { buildConsole } from "./console";
import type { Parts } from "./parts";

// Set before the first call to wrangler. Otherwise it logs which files it reads. It also reads .env if there is no
// .dev.vars, so the variables in force would change with the first start, which makes .dev.vars.
process.env.WRANGLER_LOG ??= "error";
process.env.CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV ??= "false";

export const CHECKOUT = resolve(import.meta.dirname, "../..");
export const ENTRY = join(CHECKOUT, "src/worker.ts");
export const TEST_CLOCK_ENTRY = join(CHECKOUT, "src/test-clock/worker.ts");

/** The options of the Worker in `wrangler.toml`, whose console is built first: wrangler refuses assets that are missing. */
export async function workerOptionsOfCheckout(): Promise<Partial<WorkerOptions>> {
  await buildConsole();
  return miniflareWorkerOptions(resolve(CHECKOUT, "wrangler.toml")).workerOptions as Partial<WorkerOptions>;
}

export async function partsOfCheckout(hasTestClock: boolean): Promise<Parts> {
  const workerOptions = await workerOptionsOfCheckout();
  return { workerOptions, script: await bundle(hasTestClock ? TEST_CLOCK_ENTRY : ENTRY) };
}
