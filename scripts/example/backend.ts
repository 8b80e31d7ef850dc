import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { StartFailure } from "../../src/local/failure";
import { killOnExit } from "../../src/local/watchdog";

const DIRECTORY = resolve(import.meta.dirname, "../../examples/chat");

/** One process of the chat's backend. */
export class BackendProcess {
  output = "";
  /** Set once it serves. */
  url = "";
  readonly ended: Promise<unknown>;
  readonly #process: ChildProcess;

  private constructor(bin: string, variables: Readonly<Record<string, string>>) {
    // The limiter's dependency reads the client's address, since it knows how many proxies to trust. A process group of its
    // own keeps a terminal's Ctrl-C away: the process that started the backend stops it.
    const args = ["backend:app", "--port", "0", "--no-proxy-headers", "--no-access-log"];
    this.#process = spawn(join(bin, "uvicorn"), args, {
      cwd: DIRECTORY,
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...variables },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const watchdog = killOnExit(this.#process);
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on("data", (chunk) => (this.output += chunk));
    this.ended = once(this.#process, "close").finally(() => watchdog.kill());
  }

  /**
   * Starts a backend, and waits until it serves.
   * @throws StartFailure with the output of the backend, if it ends before
   */
  static async start(bin: string, variables: Readonly<Record<string, string>>): Promise<BackendProcess> {
    const backend = new BackendProcess(bin, variables);
    const serves = new Promise<string>((resolve) => {
      backend.#process.stderr?.on("data", () => {
        const url = /running on (http:\S+) /.exec(backend.output)?.[1];
        if (url !== undefined) resolve(url);
      });
    });
    const ended = backend.ended.then((): never => {
      throw new StartFailure(`A backend did not start:\n${backend.output}`);
    });
    backend.url = await Promise.race([serves, ended]);
    ended.catch(() => {});
    return backend;
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.ended;
  }
}
