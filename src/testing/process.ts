import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Where `npm start` is, both from `src/testing` and from `dist/testing`. */
const PACKAGE = resolve(fileURLToPath(import.meta.url), "../../..");

/**
 * What `npm start -- --test-clock` runs: a process of its own, which ends when it is told to, and with the one that
 * started it at the latest.
 */
export class LimiterProcess {
  output = "";
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  /**
   * Starts it, and waits until it serves.
   * @throws Error with what it printed, when it ends before.
   */
  static async start(variables: Readonly<Record<string, string>>): Promise<{ service: LimiterProcess; url: string }> {
    const service = new LimiterProcess(variables);
    return { service, url: await service.#serves() };
  }

  private constructor(variables: Readonly<Record<string, string>>) {
    // In a group of its own, so that a Ctrl-C in a terminal reaches the tests first, and they can still clean up.
    this.#process = spawn(process.execPath, ["--import", "tsx", "src/local/start.ts", "--test-clock"], {
      cwd: PACKAGE,
      env: { ...cleanEnvironment(), ...variables },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on("data", (chunk) => (this.output += chunk));
    this.#ended = once(this.#process, "close");
  }

  async stop(): Promise<void> {
    this.#process.ref();
    this.#process.kill("SIGTERM");
    await this.#ended;
  }

  async #serves(): Promise<string> {
    const serves = new Promise<string>((resolve) => {
      this.#process.stdout?.on("data", () => {
        const url = /serves on (http:[^\s,]+)[\s,]/.exec(this.output)?.[1];
        if (url !== undefined) resolve(url);
      });
    });
    const ended = this.#ended.then((): never => {
      throw new Error(`The service ended before it served:\n${this.output}`);
    });
    const url = await Promise.race([serves, ended]);
    ended.catch(() => {});
    // Tests that forget to stop it must still come to their end, and with them it does.
    for (const handle of [this.#process, this.#process.stdout, this.#process.stderr])
      (handle as Socket | ChildProcess).unref();
    return url;
  }
}

/** Ours, without what the developer's shell or the test runner has set: that must not decide what is tested. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const isOurs = (name: string) => !/^(LIMITER_|RATE_LIMIT_)/.test(name) && !["NODE_ENV", "VITEST"].includes(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isOurs(name)));
}
