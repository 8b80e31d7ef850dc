import { resolve } from "node:path";
import { unstable_readConfig as readWranglerConfig } from "wrangler";
import { readConfig, VARIABLE_NAMES } from "../src/config/config";
import { ConfigError } from "../src/config/mistake";

/**
 * `npm run check-config`: is what would be deployed a configuration that makes sense? Reads `wrangler.toml`, and over
 * it the variables of the environment. Secrets live at Cloudflare and are not looked at.
 */
const vars: Record<string, unknown> = readWranglerConfig({
  config: resolve(import.meta.dirname, "../wrangler.toml"),
}).vars;
const set = VARIABLE_NAMES.filter((name) => (process.env[name] ?? "").trim() !== "");

try {
  const { policies, placement } = readConfig({
    ...vars,
    ...Object.fromEntries(set.map((name) => [name, process.env[name]])),
  });
  for (const { name, layers } of policies.values())
    for (const layer of layers) {
      const limits = layer.limits.map(
        ({ kind, max, windowMs }) => `${max}${kind ? ` ${kind}` : ""} per ${windowMs / 1_000} s`,
      );
      const inShadow = layer.mode === "shadow" ? " (in shadow)" : "";
      console.log(`${name} / ${layer.name}${inShadow}, by ${layer.by.join(", else ")}: ${limits.join(", ")}`);
    }
  console.log(placement.kind === "key" ? "an object a key" : `${placement.count} objects share all keys`);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
