import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { StartFailure } from "../../src/local/failure";
import { killOnExit } from "../../src/local/watchdog";
import { CLIENT_WITH_FASTAPI, ensurePython } from "../../tools/python";

const EXAMPLES = resolve(import.meta.dirname, "../../examples");

/**
 * Makes the Python environment of the examples, or updates it.
 * @returns the directory of its programs
 */
export function ensureExamplePython(): string {
  return ensurePython([CLIENT_WITH_FASTAPI, "uvicorn==0.54.0"]);
}

/** One process that serves an ASGI application of an example. */
export class UvicornProcess {
  readonly name: string;
  output = "";
  /** Set once it serves. */
  url = "";
  readonly ended: Promise<unknown>;
  readonly #process: ChildProcess;

  private constructor(bin: string, example: string, module: string, variables: Readonly<Record<string, string>>) {
    this.name = `examples/${example}/${module}.py`;
    // The limiter's dependency reads the client's address, since it knows how many proxies to trust. A process group of its
    // own keeps a terminal's Ctrl-C away: whoever started the process stops it.
    const args = [`${module}:app`, "--port", "0", "--no-proxy-headers", "--no-access-log"];
    this.#process = spawn(join(bin, "uvicorn"), args, {
      cwd: join(EXAMPLES, example),
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
   * Starts `app` of a module in the folder of an example, on any free port, and waits until it serves.
   * @param bin the programs of the Python environment
   * @throws StartFailure with the output of the process, if it ends before
   */
  static async start(
    bin: string,
    example: string,
    module: string,
    variables: Readonly<Record<string, string>>,
  ): Promise<UvicornProcess> {
    const started = new UvicornProcess(bin, example, module, variables);
    const serves = new Promise<string>((resolve) => {
      started.#process.stderr?.on("data", () => {
        const url = /running on (http:\S+) /.exec(started.output)?.[1];
        if (url !== undefined) resolve(url);
      });
    });
    const ended = started.ended.then((): never => {
      throw new StartFailure(`${started.name} did not start:\n${started.output}`);
    });
    started.url = await Promise.race([serves, ended]);
    ended.catch(() => {});
    return started;
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.ended;
  }
}
