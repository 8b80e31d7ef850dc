import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Target } from "../behaviour/target";

export const PROJECT = resolve(import.meta.dirname, "../..");

export const POLICIES = {
  upload: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["10 per 2 seconds", "100/minute"] },
      { name: "org", by: ["org"], limits: ["1000000 per 1 day"] },
    ],
  },
  burst: { layers: [{ name: "caller", by: ["user"], limits: ["1000/minute"] }] },
};

const TOKENS = { LIMITER_TOKENS: "caller-token, caller-token-2", LIMITER_ADMIN_TOKENS: "admin-token" };

export function newDirectory(): string {
  return mkdtempSync(join(tmpdir(), "limiter-"));
}

/** `npm start`, as a user has it: a process of its own, with children of its own. */
export class Service implements Target {
  readonly callerToken = "caller-token";
  readonly adminToken = "admin-token";
  output = "";
  /** Set once it serves. */
  url = "";
  readonly ended: Promise<number | null>;

  private constructor(readonly npm: ChildProcess) {
    for (const stream of [npm.stdout, npm.stderr]) stream?.on("data", (chunk) => (this.output += chunk));
    this.ended = once(npm, "close").then(([code]) => code as number | null);
  }

  /** Starts it, and waits for it to end by itself. */
  static async failing(variables: Record<string, string>): Promise<{ code: number | null; output: string }> {
    const service = Service.#spawn(variables, PROJECT);
    return { code: await service.ended, output: service.output };
  }

  /** Starts it, and waits until it serves. */
  static async start(variables: Record<string, string> = {}, project = PROJECT): Promise<Service> {
    const service = Service.#spawn(variables, project);
    const ended = service.ended.then(() => {
      throw new Error(`npm start ended:\n${service.output}`);
    });
    const serves = new Promise<void>((resolve) => {
      service.npm.stdout?.on("data", () => {
        if (/curl .*\n/.test(service.output)) resolve();
      });
    });
    await Promise.race([serves, ended]);
    ended.catch(() => {});
    service.url = /serves on (http:\S+),/.exec(service.output)?.[1] ?? "";
    return service;
  }

  static #spawn(variables: Record<string, string>, project: string): Service {
    const { LIMITER_TOKENS: _, LIMITER_ADMIN_TOKENS: __, ...environment } = process.env;
    // The test runner's own, not what a user's shell has.
    delete environment.NODE_ENV;
    delete environment.VITEST;
    const env = { ...environment, PORT: "0", ...variables };
    return new Service(
      spawn("npm", ["start"], { cwd: project, env, detached: true, stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(this.url + path, init);
  }

  /** Ends npm with a signal, as a shell or a supervisor does, and waits for the service to be gone. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.npm.kill(signal);
    return this.ended;
  }

  /** Kills every process of the service at once. */
  async killAll(): Promise<void> {
    process.kill(-(this.npm.pid as number), "SIGKILL");
    await this.ended;
  }
}

/** The variables of a service for tests: tokens and policies set, nothing of the developer's own in the way. */
export function variables(more: Record<string, string> = {}): Record<string, string> {
  return { ...TOKENS, RATE_LIMIT_POLICIES: JSON.stringify(POLICIES), LIMITER_DATA_DIR: newDirectory(), ...more };
}
