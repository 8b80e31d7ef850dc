import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Config, readConfig } from "../config/config";
import { ConfigError } from "../config/mistake";
import { StartFailure } from "./failure";
import { lockDirectory } from "./lock";
import type { Parts } from "./parts";
import { type LocalService, startLocalService } from "./service";
import { unknownVariables } from "./unknown-variables";
import {
  isGeneratedToken,
  localSettings,
  localVariables,
  namesSet,
  restrictTokenFile,
  sourceOf,
  withTokens,
} from "./variables";

export interface ServeOptions {
  /** Where `.dev.vars` and, unless LIMITER_DATA_DIR says otherwise, the counters are. */
  readonly folder: string;
  /** The clock stands still until tests move it. Nothing is kept. */
  readonly hasTestClock: boolean;
}

/**
 * Runs the service on this machine until a signal ends it, with counters on disk. README.md lists the variables.
 * @throws StartFailure or ConfigError, for what the user can fix.
 */
export async function serve({ script, workerOptions }: Parts, { folder, hasTestClock }: ServeOptions): Promise<void> {
  const devVarsPath = resolve(folder, ".dev.vars");
  restrictTokenFile(devVarsPath);
  const vars = workerOptions.bindings ?? {};
  const names = namesSet(vars, devVarsPath, process.env);
  for (const warning of unknownVariables(names)) console.warn(warning);
  if (names.includes("LIMITER_JURISDICTION"))
    console.warn("LIMITER_JURISDICTION is ignored: all data stays on this machine.");
  const settings = localSettings(vars, devVarsPath, process.env);
  const { HOST: host = "127.0.0.1", LIMITER_DATA_DIR: directory } = settings;
  const port = readPort(settings.PORT ?? "8787");
  const dataDirectory = hasTestClock
    ? temporaryDirectory(directory ?? tmpdir())
    : resolve(directory ?? join(folder, ".data"));
  const variables = withTokens(localVariables(vars, devVarsPath, process.env), devVarsPath);
  const config = readConfig(variables);

  await lockDirectory(dataDirectory);
  const hasShutdown = !hasTestClock;
  const service = await startLocalService({ host, port, dataDirectory, script, variables, workerOptions, hasShutdown });
  // The service ends with npm, which can't pass SIGKILL on. With a test clock it ends with the tests that started it.
  stopOnSignals(service, hasTestClock || process.env.npm_lifecycle_event !== undefined);

  greet(service.url.origin, { config, dataDirectory, devVarsPath, hasTestClock });
}

interface Greeting {
  readonly config: Config;
  readonly dataDirectory: string;
  readonly devVarsPath: string;
  readonly hasTestClock: boolean;
}

/** Prints where everything is, with commands that work as printed. */
function greet(origin: string, { config, dataDirectory, devVarsPath, hasTestClock }: Greeting): void {
  console.log(`The limiter serves on ${origin}, and keeps its counters in ${dataDirectory}. Try it${tokenHint(config)}:

curl -i ${origin}/v1/consume -H ${authorization(config)} -H 'Content-Type: application/json' -d '{"policy":"chat","subject":{"user":"u_1","ip":"203.0.113.7"}}'
`);
  const adminToken = adminTokenText(config, devVarsPath);
  console.log(
    adminToken
      ? `The console is at ${origin}/console. Its admin token is ${adminToken}.\n`
      : "There is no admin token. Set LIMITER_ADMIN_TOKENS to use the console and the admin calls.\n",
  );
  if (hasTestClock)
    console.log(`The clock stands still. Everyone who reaches the service can move it:

curl ${origin}/test/clock -H 'Content-Type: application/json' -d '{"advance_seconds": 60}'
`);
}

/** Where the admin token is, in words. */
function adminTokenText({ adminTokens, tokenDigests }: Config, devVarsPath: string): string | undefined {
  if (adminTokens.length > 0)
    return `LIMITER_ADMIN_TOKENS in ${sourceOf("LIMITER_ADMIN_TOKENS", devVarsPath, process.env)}`;
  const name = tokenDigests.find(({ role }) => role === "admin")?.name;
  return name && `${name} of LIMITER_TOKEN_DIGESTS`;
}

/** Digests do not tell their tokens. */
function tokenHint({ callerTokens, adminTokens }: Config): string {
  return callerTokens.length + adminTokens.length > 0 ? "" : ", with a token of LIMITER_TOKEN_DIGESTS in TOKEN";
}

/** The Authorization header for a shell: with a generated token, or with the variable that has the token. */
function authorization({ callerTokens, adminTokens }: Config): string {
  const generated = [...callerTokens, ...adminTokens].find(isGeneratedToken);
  if (generated) return `'Authorization: Bearer ${generated}'`;
  if (callerTokens.length + adminTokens.length === 0) return `"Authorization: Bearer $TOKEN"`;
  const variable = callerTokens.length > 0 ? "LIMITER_TOKENS" : "LIMITER_ADMIN_TOKENS";
  // The first token of the list.
  return `"Authorization: Bearer \${${variable}%%,*}"`;
}

/** A new directory, deleted when the service ends. */
function temporaryDirectory(parent: string): string {
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, "limiter-test-clock-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function readPort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535)
    throw new StartFailure(`PORT=${text} is not a port: use 0 (any free port) to 65535.`);
  return port;
}

function stopOnSignals(service: LocalService, endsWithParent: boolean): void {
  let stopping = false;
  const stop = async () => {
    if (stopping) process.exit(1);
    stopping = true;
    await service.stop();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    // Miniflare's own handlers end the runtime at once, with requests in flight.
    process.removeAllListeners(signal);
    process.on(signal, stop);
  }
  service.ended.then(() => {
    if (stopping) return;
    console.error("The runtime ended unexpectedly. No admitted request is lost. Start the service again.");
    process.exit(1);
  });
  const parent = process.ppid;
  if (endsWithParent) setInterval(() => process.ppid !== parent && !stopping && stop(), 250).unref();
}

/** Reports why the service does not start. What the user can fix has no stack. */
export function reportFailure(error: unknown): void {
  const isPlain = error instanceof StartFailure || error instanceof ConfigError;
  console.error(isPlain ? error.message : error);
  process.exit(1);
}
