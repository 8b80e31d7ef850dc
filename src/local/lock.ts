import { mkdirSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StartFailure } from "./failure";

const WAIT_MS = 3_000;

/**
 * Makes sure that one service at a time uses a data directory: two would fail each other's writes with SQLITE_BUSY.
 *
 * The lock is a listening socket in that directory. Unlike a file with a process number in it, the system releases it
 * however the process ends, and it can't be mistaken for another process that got the same number later.
 * Waits a little for a service that is just ending.
 * @throws StartFailure when another service has it, or it can't be written to.
 */
export async function lockDirectory(directory: string): Promise<void> {
  try {
    mkdirSync(directory, { recursive: true });
    await lock(directory);
  } catch (error) {
    if (error instanceof StartFailure) throw error;
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new StartFailure(
      `${directory} can't be used (${why}): make it writable, or set LIMITER_DATA_DIR to another directory.`,
    );
  }
}

async function lock(directory: string): Promise<void> {
  for (const giveUpAtMs = Date.now() + WAIT_MS; ; await sleep(50)) {
    const held = await isHeld(directory);
    if (!held) rmSync(join(directory, "lock"), { force: true });
    if (!held && (await tryListen(directory)) && (await isStillOurs(directory))) return;
    if (Date.now() > giveUpAtMs)
      throw new StartFailure(
        `${directory} is in use by another service: stop that one, or set LIMITER_DATA_DIR to another directory.`,
      );
  }
}

/** Two that start at the same instant both find a stale socket, and the later one may remove the earlier one's. */
async function isStillOurs(directory: string): Promise<boolean> {
  const inode = () => statSync(join(directory, "lock"), { throwIfNoEntry: false })?.ino;
  const ours = inode();
  await sleep(100);
  return ours !== undefined && inode() === ours;
}

/**
 * Whether somebody listens there. Only a connection that is refused, or no socket at all, says that nobody does: a service
 * that is stopped or too busy to accept it still has the directory.
 */
async function isHeld(directory: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = inDirectory(directory, () => connect("lock"));
    socket
      .once("connect", () => resolve(true))
      .once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
        else if (error.code === "EAGAIN") resolve(true);
        else reject(error);
      });
    socket.once("close", () => socket.destroy());
    socket.unref();
  });
}

async function tryListen(directory: string): Promise<boolean> {
  const server: Server = createServer((socket) => socket.end()).unref();
  return new Promise((resolve, reject) => {
    server.once("listening", () => resolve(true));
    server.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "EADDRINUSE" ? resolve(false) : reject(error),
    );
    inDirectory(directory, () => server.listen("lock"));
  });
}

/** A socket's path may have 107 bytes at most, so it is named from within its directory. */
function inDirectory<T>(directory: string, work: () => T): T {
  const before = process.cwd();
  process.chdir(directory);
  try {
    return work();
  } finally {
    process.chdir(before);
  }
}
