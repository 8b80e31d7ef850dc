import { parseArgs } from "node:util";
import { readConfig, VARIABLE_NAMES } from "../src/config/config";
import { ConfigError } from "../src/config/mistake";
import { unknownVariables } from "../src/local/unknown-variables";
import { limitLines, uncountedAttributes } from "./deploy/limits";
import { readWorkerConfig } from "./deploy/wrangler";
import { describeToken } from "./token/describe";

/**
 * `npm run check-config [-- --env production]` validates the configuration of an environment, and prints its limits. It
 * reads `wrangler.toml`; variables of the process's environment override it. Secrets are stored at Cloudflare and are not
 * checked, unless they are set in the environment: `LIMITER_TOKEN_DIGESTS="$(cat tokens.txt)" npm run check-config`.
 */
const { env: environment } = parseArgs({ options: { env: { type: "string" } } }).values;
const vars: Record<string, unknown> = readWorkerConfig(environment).vars;
// A variable that is set but empty counts as not set.
const set = Object.keys(process.env).filter((name) => (process.env[name] ?? "").trim() !== "");

for (const warning of unknownVariables([...Object.keys(vars), ...set])) console.warn(warning);

try {
  const config = readConfig({
    ...vars,
    ...Object.fromEntries(VARIABLE_NAMES.filter((name) => set.includes(name)).map((name) => [name, process.env[name]])),
  });
  for (const { variable, attribute } of uncountedAttributes(config))
    console.warn(`${variable} names ${attribute}, which no layer counts by.`);
  console.log(limitLines(config).join("\n"));
  for (const token of config.tokenDigests) console.log(describeToken(token, config.policies.keys(), Date.now()));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
