import { type ChildProcess, spawn } from "node:child_process";

/**
 * Ends a process with this one, also when this one is killed: it would go on serving, with nobody to stop it, and hold
 * the port and the data. A shell waits for the end of a pipe that the system closes when we die, and then ends it.
 */
export function killOnExit(child: ChildProcess): ChildProcess {
  const watchdog = spawn("sh", ["-c", 'read -r _; kill -9 "$0"', String(child.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watchdog.unref();
  return watchdog;
}
