import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { StartFailure } from "../src/local/failure";

const PROJECT = resolve(import.meta.dirname, "..");
/** Says what the client needs: when it changes, what is installed may no longer do. */
const CLIENT = join(PROJECT, "clients/python/pyproject.toml");

/** The client itself, as it is in this checkout, with what FastAPI's dependency needs. */
export const CLIENT_WITH_FASTAPI = "--editable=clients/python[fastapi]";

interface Stamp {
  readonly client: string;
  readonly requirements: readonly string[];
  /** The interpreter that the environment was made with. */
  readonly interpreter?: string;
}

/** A Python of this machine: `{ minor: 13, path: "/usr/bin/python3.13" }`. */
export interface Interpreter {
  readonly minor: number;
  readonly path: string;
}

/**
 * Every Python 3 of this machine that can make an environment, from the oldest to the newest, one for each minor version: those on
 * the PATH, and those that pyenv has installed, whose `python3.N` on the PATH runs only the version that is switched on.
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
 * A Python environment of the project in which all of these are installed: `.venv`, or one beside it. Quick when they are already.
 * @param requirements as pip takes them: `uvicorn==0.54.0`, `--editable=clients/python[fastapi]`, from the project's root
 * @param interpreter the Python to make it with
 * @returns the directory of its programs
 * @throws StartFailure which says what to install on this machine
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

  const wanted = [...new Set([...installed.requirements, ...requirements])];
  console.error(`Installing into ${name}: ${wanted.join(" ")}`);
  run(
    python,
    ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...wanted],
    "pip could not install it",
  );
  writeFileSync(stamp, JSON.stringify({ client, requirements: wanted, interpreter } satisfies Stamp));
  return bin;
}

function makeEnvironment(directory: string, interpreter: string): void {
  console.error(`Making a Python environment, ${directory}`);
  const advice = "Python 3.10 or newer with its venv module is needed; on Debian: apt-get install python3-venv";
  // Cleared: one whose Python has been removed from the machine is of no use.
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
