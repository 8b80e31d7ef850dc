import { type BuildOptions, build } from "esbuild";

/** Bundles a Worker into one module, like `wrangler deploy`. */
export const WORKER_BUILD = {
  bundle: true,
  format: "esm",
  target: "es2024",
  conditions: ["workerd", "worker", "browser"],
  external: ["cloudflare:*"],
  logLevel: "silent",
} as const satisfies BuildOptions;

export async function bundle(entryPath: string): Promise<string> {
  const result = await build({ ...WORKER_BUILD, entryPoints: [entryPath], write: false, sourcemap: "inline" });
  return (result.outputFiles[0] as { text: string }).text;
}
