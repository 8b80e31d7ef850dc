import { build } from "esbuild";

/** Bundles the Worker into one module, like `wrangler deploy`. */
export async function bundle(entryPath: string): Promise<string> {
  const result = await build({
    entryPoints: [entryPath],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*"],
    sourcemap: "inline",
    logLevel: "silent",
  });
  return (result.outputFiles[0] as { text: string }).text;
}
