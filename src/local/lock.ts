import { mkdirSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StartFailure } from "./failure";

const WAIT_MS = 3_000;
const RETRY_MS = 50;
/** Longer than another process takes from finding a stale socket to removing it. */
const SETTLE_MS = 100;

/**
 * Locks a data directory, so that only one service uses it: with two, writes would fail with SQLITE_BUSY. Waits briefly
 * for a service that is ending.
 *
 * The lock is a listening socket in the directory. Unlike for a PID file, the system releases it however the process
 * ends, and a later process with the same PID does not hold it.
 * @throws StartFailure if another service holds the lock, or the directory can't be written to.
 */
export async function lockDirectory(directory: string): Promise<void> {
  try {
    mkdirSync(directory, { recursive: true });
    await lock(directory);
  } catch (error) {
    if (error instanceof StartFailure) throw error;
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new StartFailure(
      `${directory} can't be used (${reason}): make it writable, or set LIMITER_DATA_DIR to another directory.`,
    );
  }
}

async function lock(directory: string): Promise<void> {
  const giveUpAtMs = Date.now() + WAIT_MS;
  do {
    const held = await isHeld(directory);
    if (!held) rmSync(join(directory, "lock"), { force: true });
    if (!held && (await tryListen(directory)) && (await isStillOurs(directory))) return;
    await sleep(RETRY_MS);
  } while (Date.now() <= giveUpAtMs);
  throw new StartFailure(
    `${directory} is in use by another service: stop that service, or set LIMITER_DATA_DIR to another directory.`,
  );
}

/**
 * If two services start at once, both find a stale socket, and the slower one may remove the new socket of the other.
 */
async function isStillOurs(directory: string): Promise<boolean> {
  const inode = () => statSync(join(directory, "lock"), { throwIfNoEntry: false })?.ino;
  const ours = inode();
  await sleep(SETTLE_MS);
  return ours !== undefined && inode() === ours;
}

/**
 * Whether a process listens on the socket. The lock is free only if there is no socket or the connection is refused: a
 * process that is suspended or too busy to accept still holds it.
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

/** Works from within the directory: the path of a socket has at most 107 bytes, and "lock" always fits. */
function inDirectory<T>(directory: string, work: () => T): T {
  const before = process.cwd();
  process.chdir(directory);
  try {
    return work();
  } finally {
    process.chdir(before);
  }
}
