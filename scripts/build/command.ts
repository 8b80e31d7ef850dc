import { join } from "node:path";
import { build } from "esbuild";
import { CHECKOUT } from "../../src/local/checkout";

/** Packages in CommonJS require modules of Node. */
const BANNER = `#!/usr/bin/env node
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);`;

/** Bundles `exact-limiter` into a folder two below the checkout. Returns the paths of what was bundled. */
export async function buildCommand(folder: string): Promise<string[]> {
  const { metafile } = await build({
    entryPoints: [join(CHECKOUT, "src/cli/main.ts")],
    outdir: folder,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: ["miniflare"],
    banner: { js: BANNER },
    metafile: true,
    logLevel: "warning",
  });
  return Object.keys(metafile.inputs);
}
