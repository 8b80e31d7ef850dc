import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { StartFailure } from "../src/local/failure";
import { ensurePython, findPythons, type Interpreter } from "../tools/python";

/**
 * `npm run test:python` checks the Python client: types and style; its tests on the newest Python of this machine with the
 * newest dependencies and, at the same time, on the oldest with the oldest; and the unchanged storage tests of `limits`
 * with our storage in place of memory.
 */
const PROJECT = resolve(import.meta.dirname, "..");
const CLIENT = join(PROJECT, "clients/python");

/** The newest release. Its sdist has all of its tests. */
const LIMITS = "limits-5.8.0";
const LIMITS_TESTS_NEED = [
  "limits==5.8.0",
  "pytest==9.2.0",
  "flaky==3.8.1",
  "lovely-pytest-docker==1.0.0",
  "pymemcache==4.0.0",
  "pymongo==4.20.0",
  "pytest-asyncio==1.5.0",
  "pytest-benchmark==5.3.1",
  "pytest-lazy-fixtures==1.4.1",
  "pytest-mock==3.17.0",
  "PyYAML==6.0.3",
  "redis==8.1.0",
  "valkey==6.2.0",
];

/** The storage tests of `limits` that can't pass, by a part of their names, with the reason. */
const CANNOT_PASS = {
  test_storage_reset: "the limiter forgets one key at a time: with many objects, none knows all of the keys",
  sliding_window: "a strategy that approximates, which the limiter has no part in",
};

const ENV = { ...process.env, PYTHONDONTWRITEBYTECODE: "1" };

function run(bin: string, program: string, args: readonly string[], cwd = CLIENT, env: NodeJS.ProcessEnv = ENV): void {
  console.error(`\n${program} ${args.join(" ")}`);
  execFileSync(join(bin, program), args, { cwd, stdio: "inherit", env });
}

/** Runs the client's tests in one environment. Several run at once, so the output of each is printed as a whole. */
async function runTests(bin: string, args: readonly string[]): Promise<void> {
  // No cache: all runs would write to the same one. Several at a time: most tests wait rather than work.
  const all = ["-p", "no:cacheprovider", "-n", "3", ...args];
  const title = `${join(bin, "pytest")} ${all.join(" ")}`;
  const options = { cwd: CLIENT, env: ENV, maxBuffer: Number.POSITIVE_INFINITY };
  try {
    const { stdout, stderr } = await promisify(execFile)(join(bin, "pytest"), all, options);
    console.error(`\n${title}\n${stdout}${stderr}`);
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`\n${title}\n${stdout}${stderr}`);
  }
}

/** The directory with the tests of `limits`. Its code is left out, so that the tests use the installed package. */
function limitsTests(bin: string): string {
  const directory = join(PROJECT, ".venv-suites/suites", LIMITS);
  if (existsSync(directory)) return directory;
  const sources = join(PROJECT, ".venv-suites/suites/sources");
  mkdirSync(sources, { recursive: true });
  const requirement = LIMITS.replace("-", "==");
  run(bin, "pip", ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", sources, requirement]);
  execFileSync("tar", ["-xzf", join(sources, `${LIMITS}.tar.gz`), "-C", sources]);
  for (const part of ["tests", "pyproject.toml"])
    cpSync(join(sources, LIMITS, part), join(directory, part), { recursive: true });
  return directory;
}

/** The minor version of the oldest Python that the client supports. */
function oldestStated(): number {
  const stated = /^requires-python = ">=3\.(\d+)"$/m.exec(readFileSync(join(CLIENT, "pyproject.toml"), "utf8"));
  if (!stated) throw new Error("clients/python/pyproject.toml does not state the oldest Python that it needs.");
  return Number(stated[1]);
}

/** The oldest and the newest Python of this machine that the client supports. */
function oldestAndNewest(): { oldest: Interpreter; newest: Interpreter } {
  const stated = oldestStated();
  const pythons = findPythons().filter(({ minor }) => minor >= stated);
  const [oldest, newest] = [pythons[0], pythons.at(-1)];
  if (!oldest || !newest)
    throw new StartFailure(
      `Install Python 3.${stated} or newer with its venv module; on Debian: apt-get install python3-venv.`,
    );
  console.error(`Pythons of this machine: ${pythons.map(({ minor }) => `3.${minor}`).join(", ")}`);
  if (oldest.minor > stated)
    console.error(`Python 3.${stated} is not among them: 3.${oldest.minor} is tested instead.`);
  return { oldest, newest };
}

async function main(): Promise<void> {
  const pythons = oldestAndNewest();
  const newest = ensurePython(["--editable=clients/python[fastapi,limits,test]"], ".venv-newest", pythons.newest.path);
  run(newest, "ruff", ["check", ".", "../../examples", "../../bench"]);
  run(newest, "ruff", ["format", "--check", ".", "../../examples", "../../bench"]);
  run(newest, "mypy", []);

  const oldest = ensurePython(
    ["--editable=clients/python[fastapi,limits,test-oldest]"],
    ".venv-oldest",
    pythons.oldest.path,
  );
  // Each run mostly waits for its own service, so two at once take little longer than one.
  const results = await Promise.allSettled([
    runTests(newest, []),
    // Old releases warn about new Pythons.
    runTests(oldest, ["-W", "ignore", "--ignore=tests/test_plugin.py"]),
  ]);
  const failures = results.filter((result) => result.status === "rejected").map(({ reason }) => reason as Error);
  if (failures.length > 0) throw new Error(failures.map(({ message }) => message).join("\n"));

  // An environment of its own: the plugins of these tests would affect ours.
  const suites = ensurePython(["--editable=clients/python", ...LIMITS_TESTS_NEED], ".venv-suites");
  for (const [name, why] of Object.entries(CANNOT_PASS))
    console.error(`\nLeft out of the tests of limits: ${name}, ${why}`);
  const names = Object.keys(CANNOT_PASS).join(" or ");
  const options = ["-q", "-p", "no:cacheprovider", "-p", "limiter_in_place_of_memory", "-o", "addopts="];
  const choice = ["-o", "filterwarnings=default", "--ignore=tests/benchmarks", "-k", `not (${names})`, "tests"];
  // Retries: these tests sleep and measure real time, so they are flaky on a busy machine. Some mark themselves as flaky.
  const retries = ["--force-flaky", "--max-runs=3"];
  const args = [...options, ...choice, ...retries, "--disable-warnings"];
  run(suites, "pytest", args, limitsTests(suites), { ...ENV, PYTHONPATH: join(CLIENT, "suites") });
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  if (error instanceof StartFailure) console.error("Then run it again.");
  process.exit(1);
});
