import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { ServiceProcess } from "./service-process";

export interface Resources {
  readonly residentBytes: number;
  /** Sockets are left out: each connection is one. */
  readonly openFiles: number;
}

/** The memory and the files of workerd, the process of `npm start` that decides. */
export function resourcesOf({ npm }: ServiceProcess): Resources {
  const pid = findWorkerd(Number(npm.pid));
  if (pid === undefined) throw new Error("npm start runs no workerd");
  const kilobytes = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  const openFiles = readdirSync(`/proc/${pid}/fd`).filter((fd) => !isSocket(`/proc/${pid}/fd/${fd}`)).length;
  return { residentBytes: kilobytes * 1024, openFiles };
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
