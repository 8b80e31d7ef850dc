import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { expect } from "vitest";
import { VARIABLE_NAMES } from "../../src/config/config";

export const PROJECT = resolve(import.meta.dirname, "../..");
/** Of the checkout that is copied, and never part of the package. */
export const SECRET = "lim_secret_of_the_checkout_itself";

/** What a checkout has of its own, and a fresh one has not. */
const NOT_COPIED =
  /^(node_modules|dist|\.git|\.data|\.dev\.vars|\.venv.*|\.wrangler|\..*_cache|\.bench-go|__pycache__)$/;

export interface Ended {
  readonly code: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * The folder of a newcomer: a checkout as `npm ci` leaves it, and an empty folder beside it for an application. It is not in
 * the system's folder for temporary files: Node looks for packages in all folders above, and anybody may have some there.
 */
export class Newcomer {
  readonly #root = mkdtempSync("/var/tmp/limiter-");
  readonly checkout = join(this.#root, "exact-limiter");
  readonly app = this.newFolder("app");

  constructor() {
    cpSync(PROJECT, this.checkout, { recursive: true, filter: (path) => !NOT_COPIED.test(basename(path)) });
    symlinkSync(join(PROJECT, "node_modules"), join(this.checkout, "node_modules"));
    writeFileSync(join(this.checkout, ".dev.vars"), `LIMITER_TOKENS=${SECRET}\n`);
  }

  newFolder(name: string): string {
    const folder = join(this.#root, name);
    mkdirSync(folder);
    return folder;
  }

  /** Runs lines of a shell, and stops at the first that fails. */
  run(lines: string, environment: Record<string, string> = {}, folder = this.app): Promise<Ended> {
    return new Promise((resolve) =>
      execFile("sh", ["-ec", lines], { cwd: folder, env: plainEnvironment(environment) }, (error, stdout, stderr) =>
        resolve({ code: error?.code ?? 0, stdout, stderr }),
      ),
    );
  }

  /** Starts a service, and waits until it serves. */
  async start(line: string, environment: Record<string, string> = {}): Promise<StartedService> {
    const child = spawn("sh", ["-c", `exec ${line}`], {
      cwd: this.app,
      env: plainEnvironment(environment),
      detached: true,
    });
    const service = new StartedService(child);
    await service.serves();
    return service;
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true, maxRetries: 3 });
  }
}

export class StartedService {
  output = "";
  readonly ended: Promise<unknown>;

  constructor(readonly process: ChildProcess) {
    for (const stream of [process.stdout, process.stderr]) stream?.on("data", (chunk) => (this.output += chunk));
    this.ended = once(process, "close").then(([code]) => code);
  }

  get url(): string {
    return /serves on (http:\S+),/.exec(this.output)?.[1] ?? "";
  }

  async serves(): Promise<void> {
    while (!/console is at/.test(this.output)) {
      const chunk = this.process.stdout && once(this.process.stdout, "data");
      const ended = this.ended.then(() => {
        throw new Error(`It ended:\n${this.output}`);
      });
      await Promise.race([chunk, ended]);
    }
  }

  stop(signal: NodeJS.Signals): Promise<unknown> {
    this.process.kill(signal);
    return this.ended;
  }

  /** As a terminal does: all processes get the signal. */
  interrupt(): Promise<unknown> {
    process.kill(-(this.process.pid as number), "SIGINT");
    return this.ended;
  }
}

/** What a command printed that must not fail. */
export function succeeded({ code, stdout, stderr }: Ended): string {
  expect([code, stderr]).toEqual([0, expect.anything()]);
  return stdout;
}

/** The lines of the shell in a section of a document. */
export function shellLines(document: string, heading: string): string[] {
  const text = readFileSync(join(PROJECT, document), "utf8");
  const [section = ""] = text.slice(text.indexOf(`\n${heading}\n`) + 1 + heading.length).split(/^#+ /m);
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, lines = ""]) => lines.trim().split("\n"));
}

/** Without what npm and Vitest set for the tests themselves, and without variables of the service. */
function plainEnvironment(more: Record<string, string>): NodeJS.ProcessEnv {
  const isKept = (name: string) =>
    !/^(npm_|VITEST|NODE_|EXACT_LIMITER_|HOST$|PORT$|LIMITER_DATA_DIR$)/.test(name) &&
    !(VARIABLE_NAMES as readonly string[]).includes(name);
  const kept = Object.entries(process.env).filter(([name]) => isKept(name));
  return { ...Object.fromEntries(kept), npm_config_audit: "false", npm_config_fund: "false", ...more };
}
