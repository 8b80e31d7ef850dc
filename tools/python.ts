import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { StartFailure } from "../src/local/failure";

const PROJECT = resolve(import.meta.dirname, "..");
/** Names what the client needs. When this file changes, an environment may lack something. */
const CLIENT = join(PROJECT, "clients/python/pyproject.toml");

/** The client of this checkout, with what its FastAPI dependency needs. */
export const CLIENT_WITH_FASTAPI = "--editable=clients/python[fastapi]";

interface Stamp {
  readonly client: string;
  readonly requirements: readonly string[];
  /** The interpreter of the environment. */
  readonly interpreter?: string;
}

/** A Python of this machine: `{ minor: 13, path: "/usr/bin/python3.13" }`. */
export interface Interpreter {
  readonly minor: number;
  readonly path: string;
}

/**
 * Finds every Python 3 of this machine that can make an environment: one for each minor version, oldest first. Looks on
 * the PATH and among the versions of pyenv, whose `python3.N` on the PATH runs only the active version.
 */
export function findPythons(): Interpreter[] {
  const pyenv = join(process.env.PYENV_ROOT ?? join(homedir(), ".pyenv"), "versions");
  const versions = existsSync(pyenv) ? readdirSync(pyenv).map((version) => join(pyenv, version, "bin")) : [];
  const found = new Map<number, Interpreter>();
  for (const directory of [...(process.env.PATH ?? "").split(delimiter), ...versions]) {
    if (!existsSync(directory)) continue;
    for (const name of readdirSync(directory)) {
      const minor = Number(/^python3\.(\d+)$/.exec(name)?.[1] ?? Number.NaN);
      const path = join(directory, name);
      if (!Number.isNaN(minor) && !found.has(minor) && canMakeEnvironments(path)) found.set(minor, { minor, path });
    }
  }
  return [...found.values()].sort((a, b) => a.minor - b.minor);
}

function canMakeEnvironments(python: string): boolean {
  try {
    execFileSync(python, ["-c", "import ensurepip, venv"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Makes a Python environment in the project's root, or updates it, so that all requirements are installed. Quick if they
 * are already.
 * @param requirements as pip takes them: `uvicorn==0.54.0`, or `--editable=clients/python[fastapi]` from the project's root
 * @param interpreter the Python that makes the environment
 * @returns the directory of the environment's programs
 * @throws StartFailure that names what to install on this machine
 */
export function ensurePython(
  requirements: readonly string[],
  name: ".venv" | `.venv-${string}` = ".venv",
  interpreter = "python3",
): string {
  const environment = join(PROJECT, name);
  const stamp = join(environment, "installed.json");
  const bin = join(environment, "bin");
  const python = join(bin, "python");
  if (!existsSync(python) || (readStamp(stamp).interpreter ?? "python3") !== interpreter)
    makeEnvironment(environment, interpreter);
  const installed = readStamp(stamp);
  const client = createHash("sha256").update(readFileSync(CLIENT)).digest("hex");
  const isCurrent = installed.client === client;
  if (isCurrent && requirements.every((requirement) => installed.requirements.includes(requirement))) return bin;

  const all = [...new Set([...installed.requirements, ...requirements])];
  console.error(`Installing into ${name}: ${all.join(" ")}`);
  run(
    python,
    ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...all],
    "pip could not install the requirements",
  );
  writeFileSync(stamp, JSON.stringify({ client, requirements: all, interpreter } satisfies Stamp));
  return bin;
}

function makeEnvironment(directory: string, interpreter: string): void {
  console.error(`Making the Python environment ${directory}`);
  const advice = "Install Python 3.10 or newer with its venv module; on Debian: apt-get install python3-venv";
  // An environment is useless once its Python was removed from the machine, so clear it.
  run(interpreter, ["-m", "venv", "--clear", directory], advice);
}

function readStamp(path: string): Stamp {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Stamp) : { client: "", requirements: [] };
}

function run(program: string, args: readonly string[], advice: string): void {
  try {
    execFileSync(program, args, { cwd: PROJECT, stdio: ["ignore", process.stderr, process.stderr] });
  } catch (error) {
    throw new StartFailure(`${(error as Error).message}\n${advice}.`);
  }
}
