import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { VARIABLE_NAMES } from "../src/config/config";

const PROJECT = resolve(import.meta.dirname, "..");

interface StartOptions {
  /** The checkout to start. This one by default. */
  readonly project?: string;
  readonly args?: readonly string[];
}

/** `npm start` as a user runs it: a process of its own, with children of its own. For tests and benchmarks. */
export class ServiceProcess {
  output = "";
  /** Set once it serves. */
  url = "";
  readonly ended: Promise<number | null>;

  private constructor(readonly npm: ChildProcess) {
    for (const stream of [npm.stdout, npm.stderr]) stream?.on("data", (chunk) => (this.output += chunk));
    this.ended = once(npm, "close").then(([code]) => code as number | null);
    // It would serve on if this process failed.
    const kill = () => npm.pid !== undefined && process.kill(-npm.pid, "SIGKILL");
    process.on("exit", kill);
    this.ended.finally(() => process.off("exit", kill));
  }

  /** Starts the service, and waits until it ends by itself. */
  static async failing(
    variables: Record<string, string>,
    options: StartOptions = {},
  ): Promise<{ code: number | null; output: string }> {
    const service = ServiceProcess.#spawn(variables, options);
    return { code: await service.ended, output: service.output };
  }

  /** Starts the service, and waits until it serves. */
  static async start(variables: Record<string, string> = {}, options: StartOptions = {}): Promise<ServiceProcess> {
    const service = ServiceProcess.#spawn(variables, options);
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

  static #spawn(variables: Record<string, string>, { project = PROJECT, args = [] }: StartOptions): ServiceProcess {
    const env: NodeJS.ProcessEnv = { ...process.env };
    // Variables of the developer's shell or of the test runner must not reach the service.
    for (const name of [...VARIABLE_NAMES, "HOST", "NODE_ENV", "VITEST"]) delete env[name];
    Object.assign(env, { PORT: "0", ...variables });
    return new ServiceProcess(
      spawn("npm", ["start", "--", ...args], { cwd: project, env, detached: true, stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(this.url + path, init);
  }

  /** Ends npm with a signal, as a shell or a supervisor does, and waits until the service has ended. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    this.npm.kill(signal);
    return this.ended;
  }

  /** Kills every process of the service at once. */
  async killAll(): Promise<void> {
    process.kill(-(this.npm.pid as number), "SIGKILL");
    await this.ended;
  }

  /** Kills the process that npm started, but neither npm nor the runtime. */
  async killOwnProcess(): Promise<void> {
    const { stdout } = await promisify(execFile)("pgrep", ["-P", String(this.npm.pid)]);
    process.kill(Number(stdout.trim()), "SIGKILL");
    await this.ended;
  }
}
