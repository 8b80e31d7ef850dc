import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ServiceProcess } from "../../tools/service-process";
import { POLICIES } from "../behaviour/policies";
import type { Target } from "../behaviour/target";

export function newDirectory(): string {
  return mkdtempSync(join(tmpdir(), "limiter-"));
}

/** The variables of a service for tests. */
export function variables(more: Record<string, string> = {}): Record<string, string> {
  return {
    LIMITER_TOKENS: "caller-token, caller-token-2",
    LIMITER_ADMIN_TOKENS: "admin-token",
    RATE_LIMIT_POLICIES: JSON.stringify(POLICIES),
    RATE_LIMIT_INLINE: "1",
    LIMITER_DATA_DIR: newDirectory(),
    ...more,
  };
}

export function targetOf(service: ServiceProcess): Target {
  return {
    callerToken: "caller-token",
    adminToken: "admin-token",
    fetch: (path, init) => service.fetch(path, init),
  };
}
