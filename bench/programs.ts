import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";

const running = new Set<ChildProcess>();

// Nothing that a benchmark started outlives it, however it ends.
process.on("exit", stopPrograms);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

interface Surroundings {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a program and waits for what it prints to match `ready`; gives the first group of the match. */
export function startProgram(
  program: string,
  args: readonly string[],
  ready: RegExp,
  { cwd, env }: Surroundings = {},
): Promise<string> {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let output = "";
  return new Promise((resolve, reject) => {
    const read = (data: unknown) => {
      output += data;
      const match = ready.exec(output);
      if (!match) return;
      resolve(match[1] ?? "");
      child.stdout?.off("data", read).resume();
      // What goes wrong later is worth reading.
      child.stderr?.off("data", read).pipe(process.stderr);
    };
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", read);
    child.once("error", reject);
    child.once("exit", () => {
      running.delete(child);
      reject(new Error(`${program} ended:\n${output}`));
    });
  });
}

/** Ends what `startProgram` started. */
export function stopPrograms(): void {
  for (const child of running) {
    child.stderr?.unpipe();
    child.kill("SIGTERM");
  }
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * Starts Debian's redis-server, installed when it is missing, on a port of its own: what it acknowledges is on disk.
 * @returns its port
 */
export async function startRedis(directory: string): Promise<number> {
  if (!existsSync("/usr/bin/redis-server"))
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "redis-server"], {
      stdio: ["ignore", process.stderr, process.stderr],
    });
  const port = await freePort();
  const durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
  // A rewrite of the file in the middle of a round would be measured as if it were Redis.
  const steady = ["--auto-aof-rewrite-percentage", "0"];
  const where = ["--port", String(port), "--dir", directory, "--bind", "127.0.0.1"];
  await startProgram("/usr/bin/redis-server", [...where, ...durable, ...steady], /Ready to accept connections/);
  return port;
}
