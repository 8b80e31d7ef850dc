import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build } from "esbuild";

const PROJECT = resolve(import.meta.dirname, "../..");
const SOURCES = join(PROJECT, "console");
/** The directory in `[assets]` of `wrangler.toml`. */
const DIRECTORY = join(PROJECT, "dist/console");

/**
 * Bundles the console: a page, its script and its style. Unchanged files are left alone, others are replaced
 * atomically: several services may start in one checkout at the same time.
 * @returns the paths of what was bundled.
 */
export async function buildConsole(): Promise<string[]> {
  const { outputFiles, metafile } = await build({
    entryPoints: {
      console: join(SOURCES, "console.html"),
      "console/icon": join(SOURCES, "icon.svg"),
      "console/main": join(SOURCES, "main.ts"),
      "console/console": join(SOURCES, "console.css"),
    },
    bundle: true,
    minify: true,
    metafile: true,
    write: false,
    format: "esm",
    target: "es2022",
    // Without the development builds of lit-html and other packages.
    conditions: ["production", "browser"],
    loader: { ".html": "copy", ".svg": "copy" },
    outdir: DIRECTORY,
    logLevel: "silent",
  });
  for (const { path, contents } of outputFiles) replace(path, contents);
  return Object.keys(metafile.inputs);
}

function replace(path: string, contents: Uint8Array): void {
  try {
    if (readFileSync(path).equals(contents)) return;
  } catch {
    mkdirSync(dirname(path), { recursive: true });
  }
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}
