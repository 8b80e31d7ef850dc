import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The directory of the package, from both `src/testing` and `dist/testing`. */
const PACKAGE = resolve(fileURLToPath(import.meta.url), "../../..");

/** The process of `npm start -- --test-clock`. It ends when stopped, and at the latest with its parent. */
export class LimiterProcess {
  output = "";
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;

  /**
   * Starts the process, and waits until it serves.
   * @throws Error with the output, if the process ends before.
   */
  static async start(variables: Readonly<Record<string, string>>): Promise<{ service: LimiterProcess; url: string }> {
    const service = new LimiterProcess(variables);
    return { service, url: await service.#untilServing() };
  }

  private constructor(variables: Readonly<Record<string, string>>) {
    // In a process group of its own: otherwise Ctrl-C would end it before the tests have cleaned up.
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

  async #untilServing(): Promise<string> {
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
    // It must not keep the process of the tests alive if they forget to stop it. It ends with its parent.
    for (const handle of [this.#process, this.#process.stdout, this.#process.stderr])
      (handle as Socket | ChildProcess).unref();
    return url;
  }
}

/** Our environment without variables of the service or the test runner: a developer's shell must not change tests. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const isKept = (name: string) => !/^(LIMITER_|RATE_LIMIT_)/.test(name) && !["NODE_ENV", "VITEST"].includes(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isKept(name)));
}
