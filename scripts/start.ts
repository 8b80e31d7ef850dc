import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { WorkerOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions as miniflareWorkerOptions } from "wrangler";
import { readConfig } from "../src/config/config";
import { ConfigError } from "../src/config/mistake";
import { bundle } from "./local/bundle";
import { StartFailure } from "./local/failure";
import { lockDirectory } from "./local/lock";
import { type LocalService, startService } from "./local/service";
import { localVariables, withTokens } from "./local/variables";

/** `npm start`: the service on this machine, with counters on disk. README.md lists the variables. */
// Before wrangler is asked for anything: it says otherwise which files it read, and reads .env only as long as there is
// no .dev.vars, so that what is in force would change with the first start.
process.env.WRANGLER_LOG ??= "error";
process.env.CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV ??= "false";

const project = resolve(dirname(fileURLToPath(import.meta.url)), "..");

async function main(): Promise<void> {
  const host = process.env.HOST?.trim() || "127.0.0.1";
  const port = readPort(process.env.PORT?.trim() || "8787");
  const dataDirectory = resolve(process.env.LIMITER_DATA_DIR?.trim() || resolve(project, ".data"));
  const devVarsPath = resolve(project, ".dev.vars");

  const { workerOptions, main: entryPath } = miniflareWorkerOptions(resolve(project, "wrangler.toml"));
  const variables = withTokens(localVariables(workerOptions.bindings ?? {}, devVarsPath, process.env), devVarsPath);
  const config = readConfig(variables);

  await lockDirectory(dataDirectory);
  const service = await startService({
    host,
    port,
    dataDirectory,
    script: await bundle(entryPath ?? resolve(project, "src/worker.ts")),
    variables,
    workerOptions: workerOptions as Partial<WorkerOptions>,
  });
  stopOnSignals(service);

  const token = [...config.callerTokens, ...config.adminTokens][0]?.replaceAll("'", "'\\''");
  console.log(`The limiter serves on ${service.url.origin}, its counters are in ${dataDirectory}. Try it:

curl -i ${service.url.origin}/v1/consume -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' -d '{"policy":"chat","subject":{"user":"u_1","ip":"203.0.113.7"}}'
`);
}

function readPort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new StartFailure(`PORT=${text} is not a port: use 1 to 65535.`);
  return port;
}

function stopOnSignals(service: LocalService): void {
  let stopping = false;
  const stop = async () => {
    if (stopping) process.exit(1);
    stopping = true;
    await service.stop();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    // Miniflare's own handlers end the runtime at once, with the requests under way.
    process.removeAllListeners(signal);
    process.on(signal, stop);
  }
  service.ended.then(() => {
    if (stopping) return;
    console.error("The runtime ended unexpectedly; nothing that was admitted is lost. Start the service again.");
    process.exit(1);
  });
  // Whoever ends npm means the service: npm that is killed has no time to pass the signal on.
  const parent = process.ppid;
  if (process.env.npm_lifecycle_event !== undefined)
    setInterval(() => process.ppid !== parent && !stopping && stop(), 250).unref();
}

main().catch((error: unknown) => {
  const isPlain = error instanceof StartFailure || error instanceof ConfigError;
  console.error(isPlain ? error.message : error);
  process.exit(1);
});
