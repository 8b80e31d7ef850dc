import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { WORKER_BUILD } from "../src/local/bundle";
import { CHECKOUT, ENTRY, TEST_CLOCK_ENTRY, workerOptionsOfCheckout } from "../src/local/checkout";
import { buildConsole } from "../src/local/console";
import { SHIPPED } from "../src/local/shipped";
import { buildCommand } from "./build/command";
import { readWorkerConfig } from "./deploy/wrangler";

/**
 * `npm run build` builds what the package ships: the libraries by tsc, the service and the command by esbuild. Their
 * packages are bundled, so that whoever installs the client alone installs nothing else.
 */
const { files } = JSON.parse(readFileSync(join(CHECKOUT, "package.json"), "utf8")) as { files: string[] };
const DIST = join(CHECKOUT, "dist");
const LICENCES = "licences.txt";

async function main(): Promise<void> {
  // The console is replaced in place: services of this checkout may be serving it.
  for (const path of files.filter((path) => path !== "dist/console"))
    rmSync(join(CHECKOUT, path), { recursive: true, force: true });
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], {
    cwd: CHECKOUT,
    stdio: "inherit",
  });
  const inputs = [...(await buildService()), ...(await buildCommand(join(DIST, "cli"))), ...(await buildConsole())];
  writeFileSync(join(DIST, LICENCES), licencesOf(inputs));
}

/** Returns the paths of what was bundled. */
async function buildService(): Promise<string[]> {
  const folder = join(DIST, "service");
  const { metafile } = await build({
    ...WORKER_BUILD,
    entryPoints: [
      { in: ENTRY, out: SHIPPED.worker.replace(/\.js$/, "") },
      { in: TEST_CLOCK_ENTRY, out: SHIPPED.testClock.replace(/\.js$/, "") },
    ],
    outdir: folder,
    metafile: true,
  });
  // Of wrangler.toml alone: wrangler adds the variables of .dev.vars, and tokens must not be shipped.
  const options = { ...(await workerOptionsOfCheckout()), bindings: readWorkerConfig().vars };
  writeFileSync(join(folder, SHIPPED.options), JSON.stringify(options, null, 2));
  return Object.keys(metafile.inputs);
}

/** The licences of the packages that were bundled. They ask to be shipped with the code. */
function licencesOf(inputs: readonly string[]): string {
  const packages = inputs.map((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? "");
  return [...new Set(packages)]
    .filter((path) => path !== "")
    .sort()
    .map(licenceOf)
    .join("\n");
}

function licenceOf(path: string): string {
  const folder = join(CHECKOUT, path);
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const text = file === undefined ? `${license}\n` : readFileSync(join(folder, file), "utf8");
  return `${name} ${version}\n\n${text}`;
}

await main();
