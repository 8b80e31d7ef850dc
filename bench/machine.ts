import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { resolve } from "node:path";

/** What any run was made on, in a line. */
export function describeHost(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} cores (${first?.model.trim()}), ${memory} GiB, Node ${process.versions.node}, workerd ${versionOf("workerd")}`;
}

/** What a run was measured on beside its peers, in a line. */
export function describeMachine(): string {
  const redis = /v=(\S+)/.exec(execFileSync("redis-server", ["--version"], { encoding: "utf8" }))?.[1];
  return [
    describeHost(),
    `Redis ${redis}`,
    ...["ioredis", "rate-limiter-flexible", "@upstash/ratelimit"].map((name) => `${name} ${versionOf(name)}`),
  ].join(", ");
}

function versionOf(name: string): string {
  const path = resolve(import.meta.dirname, "../node_modules", name, "package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
