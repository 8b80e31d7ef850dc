import { type ChildProcess, spawn } from "node:child_process";

/**
 * Kills a child process when this process ends, even by SIGKILL: the child would go on serving, and hold the port and
 * the data. A shell waits for the end of a pipe, which the system closes when this process ends, and then kills the
 * child.
 */
export function killOnExit(child: ChildProcess): ChildProcess {
  const watchdog = spawn("sh", ["-c", 'read -r _; kill -9 "$0"', String(child.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watchdog.unref();
  return watchdog;
}
