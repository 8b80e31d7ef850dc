import { execFileSync } from "node:child_process";
import { describeHost, versionOf } from "../tools/machine";

const PACKAGES = ["ioredis", "rate-limiter-flexible", "@upstash/ratelimit"];

/** The machine of a run beside peers, in a line: with the versions of these packages, and of what else is named. */
export function describeMachine(packages: readonly string[] = PACKAGES, more: readonly string[] = []): string {
  const redis = /v=(\S+)/.exec(execFileSync("redis-server", ["--version"], { encoding: "utf8" }))?.[1];
  return [describeHost(), `Redis ${redis}`, ...packages.map((name) => `${name} ${versionOf(name)}`), ...more].join(
    ", ",
  );
}
