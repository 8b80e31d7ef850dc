import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const OWN_PATH = fileURLToPath(import.meta.url);
/** The directory of the package, from both `src/testing` and `dist/testing`. */
const PACKAGE = resolve(OWN_PATH, "../../..");
/** What starts the limiter for tests: of the checkout, and of the package. */
const OWN_START =
  extname(OWN_PATH) === ".ts" ? ["--import", "tsx", "src/local/start.ts"] : ["dist/cli/main.js", "start"];

/**
 * A shell runs the command of a user, and ends it with the tests. Nothing but the shell would notice that they were
 * killed: the processes between the tests and the limiter, such as npm, live on. It reads a pipe that the system closes then.
 */
const ENDING_WITH_PARENT = `exec 3<&0
{ read -r _ <&3; kill -TERM 0; } >/dev/null 2>&1 &
exec 3<&-
eval "$0" </dev/null
kill $!`;

/** The process of a limiter with a test clock. It ends when stopped, and at the latest with its parent. */
export class LimiterProcess {
  output = "";
  readonly #process: ChildProcess;
  /** A command may start processes between this one and the limiter, which pass no signal on. */
  readonly #isGroup: boolean;
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
    const options = { env: { ...cleanEnvironment(), ...variables }, detached: true } as const;
    const command = process.env.EXACT_LIMITER_COMMAND?.trim();
    this.#isGroup = Boolean(command);
    this.#process = command
      ? spawn("sh", ["-c", ENDING_WITH_PARENT, command], { ...options, stdio: "pipe" })
      : spawn(process.execPath, [...OWN_START, "--test-clock"], {
          ...options,
          cwd: PACKAGE,
          stdio: ["ignore", "pipe", "pipe"],
        });
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on("data", (chunk) => (this.output += chunk));
    this.#ended = once(this.#process, "close");
  }

  async stop(): Promise<void> {
    this.#process.ref();
    this.#signal();
    await this.#ended;
  }

  #signal(): void {
    const { pid, exitCode, signalCode } = this.#process;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    process.kill(this.#isGroup ? -pid : pid, "SIGTERM");
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
    for (const handle of [this.#process, this.#process.stdin, this.#process.stdout, this.#process.stderr])
      (handle as Socket | ChildProcess | null)?.unref();
    return url;
  }
}

/** Our environment without variables of the service or the test runner: a developer's shell must not change tests. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const isKept = (name: string) => !/^(LIMITER_|RATE_LIMIT_)/.test(name) && !["NODE_ENV", "VITEST"].includes(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isKept(name)));
}
