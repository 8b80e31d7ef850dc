import { execFileSync } from "node:child_process";
import { describeHost, versionOf } from "../tools/machine";

const PACKAGES = ["ioredis", "rate-limiter-flexible", "@upstash/ratelimit"];

/** The machine of a run in one line, with the versions of Redis, of these packages, and `more` versions. */
export function describeMachine(packages: readonly string[] = PACKAGES, more: readonly string[] = []): string {
  const redis = /v=(\S+)/.exec(execFileSync("redis-server", ["--version"], { encoding: "utf8" }))?.[1];
  return [describeHost(), `Redis ${redis}`, ...packages.map((name) => `${name} ${versionOf(name)}`), ...more].join(
    ", ",
  );
}
