import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { ServiceProcess } from "./service-process";

export interface Resources {
  readonly residentBytes: number;
  /** Sockets are left out: each connection is one. */
  readonly openFiles: number;
}

/** The memory and the files of workerd, the process of `npm start` that decides. */
export function resourcesOf(service: ServiceProcess): Resources {
  const pid = workerdOf(service);
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  const openFiles = readdirSync(`/proc/${pid}/fd`).filter((fd) => !isSocket(`/proc/${pid}/fd/${fd}`)).length;
  return { residentBytes: kilobytes * 1024, openFiles };
}

/** The process id of workerd, which decides. */
export function workerdOf({ npm }: ServiceProcess): number {
  const pid = findWorkerd(Number(npm.pid));
  if (pid === undefined) throw new Error("npm start runs no workerd");
  return pid;
}

/** Processor time that all threads of a process have used, in seconds. */
export function processorSecondsOf(pid: number): number {
  // Fields 14 and 15 of the line (proc(5)), in hundredths of a second. The second field may have spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith("socket:");
  } catch {
    // The file was closed since it was listed.
    return true;
  }
}

function findWorkerd(parent: number): number | undefined {
  const lines = execFileSync("ps", ["-e", "-o", "pid=,ppid=,comm="], { encoding: "utf8" }).trim().split("\n");
  const processes = lines.map((line) => line.trim().split(/\s+/));
  const children = processes.filter(([, ppid]) => Number(ppid) === parent);
  for (const [pid, , name] of children) {
    const found = name === "workerd" ? Number(pid) : findWorkerd(Number(pid));
    if (found !== undefined) return found;
  }
  return undefined;
}
