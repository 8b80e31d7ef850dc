import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { lockDirectory } from "../../src/local/lock";

const newDirectory = () => mkdtempSync(join(tmpdir(), "limiter-"));

/** A process that listens on the lock of a directory and then blocks, like a suspended process. */
async function startHolder(directory: string): Promise<ChildProcess> {
  const script = `require("node:net").createServer().listen({ path: "lock", backlog: 1 }, () => {
    process.stdout.write("listens");
    setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 10);
  })`;
  const stdio = ["ignore", "pipe", "inherit"] as const;
  const holder = spawn(process.execPath, ["--eval", script], { cwd: directory, stdio: [...stdio] });
  onTestFinished(() => void holder.kill("SIGKILL"));
  await once(holder.stdout as NonNullable<typeof holder.stdout>, "data");
  return holder;
}

/** Connects until the backlog is full: a connection is neither accepted nor refused. */
async function fillBacklog(directory: string): Promise<string | undefined> {
  for (let i = 0; i < 100; i++) {
    const socket = connect(join(directory, "lock"));
    onTestFinished(() => void socket.destroy());
    const code = await new Promise<string | undefined>((resolve) => {
      socket.once("connect", () => resolve(undefined));
      socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    });
    if (code !== undefined) return code;
  }
  return undefined;
}

test("a lock is held while its holder is too busy to accept a connection, and free once the holder is gone", async () => {
  const directory = newDirectory();
  const holder = await startHolder(directory);
  expect(await fillBacklog(directory)).toBe("EAGAIN");
  await expect(lockDirectory(directory)).rejects.toThrow("is in use by another service");
  expect(existsSync(join(directory, "lock"))).toBe(true);
  const gone = once(holder, "close");
  holder.kill("SIGKILL");
  await gone;
  await lockDirectory(directory);
});
