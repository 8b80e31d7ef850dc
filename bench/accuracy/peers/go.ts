import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const PROGRAMS = resolve(import.meta.dirname, "../../../.bench-go");

export const GUBERNATOR = "github.com/gubernator-io/gubernator/v2/cmd/gubernator@v2.13.0";
export const ENVOY_RATELIMIT = "github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36";

/**
 * Builds a Go program into `.bench-go`, unless it is there already.
 * @returns its path, or undefined if it can't be built here; the reason is printed
 */
export function ensureGo(module: string): string | undefined {
  const [path, version] = module.split("@") as [string, string];
  const folder = join(PROGRAMS, version);
  const program = join(folder, path.slice(path.lastIndexOf("/") + 1));
  if (existsSync(program)) return program;
  console.error(`Building ${module}`);
  try {
    const env = { ...process.env, GOBIN: folder };
    execFileSync("go", ["install", module], { env, stdio: ["ignore", "ignore", "pipe"], timeout: 900_000 });
    return program;
  } catch (error) {
    console.error(`Left out, because it can't be built: ${(error as Error).message}`);
    return undefined;
  }
}
