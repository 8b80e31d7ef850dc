import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";

const running = new Set<ChildProcess>();

// No program outlives the benchmark that started it, however that ends.
process.on("exit", stopPrograms);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

interface SpawnSettings {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Program {
  /** The first group of the match in the program's output. */
  readonly match: string;
  /** Kills the program and all that it started without warning, and waits until it has ended. */
  kill(): Promise<void>;
}

/** A program that can be killed and started again. */
export interface RestartableProgram {
  /** The match in the output of the last start. */
  readonly match: string;
  restart(): Promise<void>;
}

/** Starts a program, and waits until its output matches `ready`. Returns the first group of the match. */
export async function startProgram(
  program: string,
  args: readonly string[],
  ready: RegExp,
  settings: SpawnSettings = {},
): Promise<string> {
  return (await spawnProgram(program, args, ready, settings)).match;
}

/** Starts a program that will be killed and restarted. */
export async function startRestartable(spawnIt: () => Promise<Program>): Promise<RestartableProgram> {
  let program = await spawnIt();
  return {
    get match() {
      return program.match;
    },
    async restart() {
      await program.kill();
      program = await spawnIt();
    },
  };
}

/** Starts a program, and waits until its output matches `ready`. */
export function spawnProgram(
  program: string,
  args: readonly string[],
  ready: RegExp,
  { cwd, env }: SpawnSettings = {},
): Promise<Program> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own, so that its children end with it.
    detached: true,
  });
  running.add(child);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = () => {
    signalGroup(child, "SIGKILL");
    return exited;
  };
  let output = "";
  return new Promise((resolve, reject) => {
    const read = (data: unknown) => {
      output += data;
      const match = ready.exec(output);
      if (!match) return;
      resolve({ match: match[1] ?? "", kill });
      child.stdout?.off("data", read).resume();
      // Later errors are worth reading.
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

/** Ends all programs that were started here. */
export function stopPrograms(): void {
  for (const child of running) signalGroup(child, "SIGTERM");
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  child.stderr?.unpipe();
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch (error) {
    // It has ended, and its exit event is still to come.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Finds a port that is not in use. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Settings with which an acknowledged write of Redis is on disk. */
export const SYNCED_AT_EVERY_WRITE = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

/**
 * Starts Debian's redis-server on a port of its own, and installs it if it is missing. Acknowledged writes are on disk.
 * @returns its port
 */
export async function startRedis(directory: string): Promise<number> {
  const port = await freePort();
  await spawnRedis(directory, port, SYNCED_AT_EVERY_WRITE);
  return port;
}

/** Starts a Redis at this port with these settings. The match is its process id. */
export function spawnRedis(directory: string, port: number, settings: readonly string[]): Promise<Program> {
  if (!existsSync("/usr/bin/redis-server"))
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "redis-server"], {
      stdio: ["ignore", process.stderr, process.stderr],
    });
  // A rewrite of the file in the middle of a round would distort the measurement.
  const steady = ["--auto-aof-rewrite-percentage", "0"];
  const where = ["--port", String(port), "--dir", directory, "--bind", "127.0.0.1"];
  return spawnProgram(
    "/usr/bin/redis-server",
    [...where, ...settings, ...steady],
    /(\d+):M .* Ready to accept connections/,
  );
}
