import { build } from "esbuild";

/** The Worker as one module, bundled as `wrangler deploy` does it. */
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
