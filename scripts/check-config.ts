import { parseArgs } from "node:util";
import { checkConfig } from "../src/cli/check-config";
import { VARIABLE_NAMES } from "../src/config/config";
import { ConfigError } from "../src/config/mistake";
import { readWorkerConfig } from "./deploy/wrangler";

/**
 * `npm run check-config [-- --env production]` validates the configuration of an environment, and prints its limits. It
 * reads `wrangler.toml`; variables of the process's environment override it. Secrets are stored at Cloudflare and are not
 * checked, unless they are set in the environment: `LIMITER_TOKEN_DIGESTS="$(cat tokens.txt)" npm run check-config`.
 */
const { env: environment } = parseArgs({ options: { env: { type: "string" } } }).values;
const vars: Record<string, unknown> = readWorkerConfig(environment).vars;
// A variable that is set but empty counts as not set.
const set = Object.keys(process.env).filter((name) => (process.env[name] ?? "").trim() !== "");
const overriding = VARIABLE_NAMES.filter((name) => set.includes(name)).map((name) => [name, process.env[name]]);

try {
  checkConfig({ ...vars, ...Object.fromEntries(overriding) }, [...Object.keys(vars), ...set]);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
