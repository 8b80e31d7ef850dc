import { resolve } from "node:path";
import { unstable_readConfig as readWranglerConfig } from "wrangler";
import { readConfig, VARIABLE_NAMES } from "../src/config/config";
import { ConfigError } from "../src/config/mistake";
import type { KeyPlacement } from "../src/config/placement";
import { unknownVariables } from "../src/local/unknown-variables";

const objectsOf = (placement: KeyPlacement) =>
  placement.kind === "key" ? "have an object each" : `share ${placement.count} objects`;

/**
 * `npm run check-config` validates the configuration that would be deployed, and prints its limits. It reads
 * `wrangler.toml`; variables of the environment override it. Secrets are stored at Cloudflare and are not checked.
 */
const vars: Record<string, unknown> = readWranglerConfig({
  config: resolve(import.meta.dirname, "../wrangler.toml"),
}).vars;
// A variable that is set but empty counts as not set.
const set = Object.keys(process.env).filter((name) => (process.env[name] ?? "").trim() !== "");

for (const warning of unknownVariables([...Object.keys(vars), ...set])) console.warn(warning);

try {
  const { policies, placement } = readConfig({
    ...vars,
    ...Object.fromEntries(VARIABLE_NAMES.filter((name) => set.includes(name)).map((name) => [name, process.env[name]])),
  });
  for (const { name, layers } of policies.values())
    for (const layer of layers) {
      const limits = layer.limits.map(
        ({ kind, max, windowMs }) => `${max}${kind ? ` ${kind}` : ""} per ${windowMs / 1_000} s`,
      );
      const inShadow = layer.mode === "shadow" ? " (in shadow)" : "";
      console.log(`${name} / ${layer.name}${inShadow}, by ${layer.by.join(", else ")}: ${limits.join(", ")}`);
    }
  const counted = new Set([...policies.values()].flatMap(({ layers }) => layers.flatMap(({ by }) => by)));
  for (const [attribute, own] of placement.attributes ?? []) {
    if (!counted.has(attribute)) console.warn(`LIMITER_PLACEMENT names ${attribute}, which no layer counts by.`);
    console.log(`Keys of ${attribute} ${objectsOf(own)}.`);
  }
  console.log(`${placement.attributes ? "All other keys" : "All keys"} ${objectsOf(placement)}.`);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
