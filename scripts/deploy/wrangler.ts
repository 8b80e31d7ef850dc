import { type SpawnOptions, spawn } from "node:child_process";
import { resolve } from "node:path";
import { unstable_readConfig as readWranglerConfig } from "wrangler";

const PROJECT = resolve(import.meta.dirname, "../..");
const WRANGLER = resolve(PROJECT, "node_modules/wrangler/bin/wrangler.js");

/** What `wrangler.toml` says of an environment, as far as scripts and tests read it. Wrangler's own type is not exported. */
export interface WorkerConfig {
  readonly name: string;
  readonly routes?: readonly (string | { readonly pattern: string; readonly custom_domain?: boolean })[];
  readonly workers_dev?: boolean;
  readonly preview_urls?: boolean;
  readonly vars: Readonly<Record<string, unknown>>;
  readonly durable_objects: {
    readonly bindings: readonly { readonly name: string; readonly class_name: string; readonly script_name?: string }[];
  };
  readonly limits?: { readonly cpu_ms?: number; readonly subrequests?: number };
  readonly observability?: { readonly enabled?: boolean };
  /** The names of the environments. Wrangler adds them. */
  readonly definedEnvironments?: readonly string[];
}

/** Reads an environment of `wrangler.toml`. Without a name: what stands above the environments. */
export function readWorkerConfig(environment?: string): WorkerConfig {
  return readWranglerConfig({
    config: resolve(PROJECT, "wrangler.toml"),
    ...(environment !== undefined && { env: environment }),
  });
}

export interface Ended {
  readonly code: number | null;
  /** What it printed, unless it printed to the terminal. */
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs wrangler for an environment. The empty name is what stands above the environments: wrangler warns without it. */
export function wrangler(
  args: readonly string[],
  environment: string | undefined,
  stdio: SpawnOptions["stdio"],
): Promise<Ended> {
  const child = spawn(process.execPath, [WRANGLER, ...args, "--env", environment ?? ""], {
    cwd: PROJECT,
    stdio,
    env: stdio === "pipe" ? { ...process.env, NO_COLOR: "1" } : process.env,
  });
  const ended = { code: null as number | null, stdout: "", stderr: "" };
  child.stdout?.on("data", (chunk) => (ended.stdout += chunk));
  child.stderr?.on("data", (chunk) => (ended.stderr += chunk));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ ...ended, code }));
  });
}
