import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { resolve } from "node:path";

const PACKAGES = ["ioredis", "rate-limiter-flexible", "@upstash/ratelimit"];

/** What any run was made on, in a line. */
export function describeHost(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} cores (${first?.model.trim()}), ${memory} GiB, Node ${process.versions.node}, workerd ${versionOf("workerd")}`;
}

/** What a run was made on beside peers, in a line: with the versions of these packages, and of what else is named. */
export function describeMachine(packages: readonly string[] = PACKAGES, more: readonly string[] = []): string {
  const redis = /v=(\S+)/.exec(execFileSync("redis-server", ["--version"], { encoding: "utf8" }))?.[1];
  return [describeHost(), `Redis ${redis}`, ...packages.map((name) => `${name} ${versionOf(name)}`), ...more].join(
    ", ",
  );
}

function versionOf(name: string): string {
  const path = resolve(import.meta.dirname, "../node_modules", name, "package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
