import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build } from "esbuild";

const PROJECT = resolve(import.meta.dirname, "../..");
const SOURCES = join(PROJECT, "console");
/** What `[assets]` of `wrangler.toml` names. */
const DIRECTORY = join(PROJECT, "dist/console");

/**
 * Bundles the console, a page with its script and style, for those who serve it. Files that are as they should be are
 * left alone and others replaced at once, since several services may be starting in one checkout.
 */
export async function buildConsole(): Promise<void> {
  const { outputFiles } = await build({
    entryPoints: {
      console: join(SOURCES, "console.html"),
      "console/icon": join(SOURCES, "icon.svg"),
      "console/main": join(SOURCES, "main.ts"),
      "console/console": join(SOURCES, "console.css"),
    },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    // What lit-html and others have for those who develop them stays out.
    conditions: ["production", "browser"],
    loader: { ".html": "copy", ".svg": "copy" },
    outdir: DIRECTORY,
    logLevel: "silent",
  });
  for (const { path, contents } of outputFiles) replace(path, contents);
}

function replace(path: string, contents: Uint8Array): void {
  try {
    if (readFileSync(path).equals(contents)) return;
  } catch {
    mkdirSync(dirname(path), { recursive: true });
  }
  const written = `${path}.${process.pid}`;
  writeFileSync(written, contents);
  renameSync(written, path);
}
