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

export interface Program {
  /** The first group of what its output was waited for to match. */
  readonly said: string;
  /** Kills it and what it started without warning, and waits until it is gone. */
  kill(): Promise<void>;
}

/** Starts a program and waits for what it prints to match `ready`; gives the first group of the match. */
export async function startProgram(
  program: string,
  args: readonly string[],
  ready: RegExp,
  surroundings: Surroundings = {},
): Promise<string> {
  return (await spawnProgram(program, args, ready, surroundings)).said;
}

/** The same, of a program that is to be killed. */
export function spawnProgram(
  program: string,
  args: readonly string[],
  ready: RegExp,
  { cwd, env }: Surroundings = {},
): Promise<Program> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: what it starts itself ends with it.
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
      resolve({ said: match[1] ?? "", kill });
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
  for (const child of running) signalGroup(child, "SIGTERM");
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  child.stderr?.unpipe();
  if (child.pid !== undefined) process.kill(-child.pid, signal);
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What Redis acknowledges is on disk. */
export const SYNCED_AT_EVERY_WRITE = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

/**
 * Starts Debian's redis-server, installed when it is missing, on a port of its own: what it acknowledges is on disk.
 * @returns its port
 */
export async function startRedis(directory: string): Promise<number> {
  const port = await freePort();
  await spawnRedis(directory, port, SYNCED_AT_EVERY_WRITE);
  return port;
}

/** The same, at a port and with settings that the caller chooses, to be killed. */
export function spawnRedis(directory: string, port: number, settings: readonly string[]): Promise<Program> {
  if (!existsSync("/usr/bin/redis-server"))
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "redis-server"], {
      stdio: ["ignore", process.stderr, process.stderr],
    });
  // A rewrite of the file in the middle of a round would be measured as if it were Redis.
  const steady = ["--auto-aof-rewrite-percentage", "0"];
  const where = ["--port", String(port), "--dir", directory, "--bind", "127.0.0.1"];
  return spawnProgram("/usr/bin/redis-server", [...where, ...settings, ...steady], /Ready to accept connections/);
}
