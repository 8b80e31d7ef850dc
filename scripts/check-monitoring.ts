import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { StartFailure } from "../src/local/failure";
import { dashboardQueries, MONITORING } from "../tools/monitoring";
import { temporaryFolder } from "../tools/temporary-folder";

/**
 * `npm run check:monitoring` has promtool check the Prometheus configuration, the alerts and their tests, and the queries of
 * the dashboard. Without a promtool it unpacks that of Debian's package, and installs nothing.
 */
const CACHE = resolve(import.meta.dirname, "../node_modules/.cache/prometheus");

function ensurePromtool(): string {
  const places = [...(process.env.PATH ?? "").split(":"), join(CACHE, "usr/bin")];
  const found = places.map((place) => join(place, "promtool")).find((path) => existsSync(path));
  if (found) return found;
  mkdirSync(CACHE, { recursive: true });
  const run = (program: string, ...args: readonly string[]) =>
    execFileSync(program, args, { cwd: CACHE, stdio: ["ignore", "ignore", process.stderr] });
  try {
    run("apt-get", "update", "-qq");
    // apt's own user may not write here.
    run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "prometheus");
    for (const file of readdirSync(CACHE)) if (file.endsWith(".deb")) run("dpkg", "-x", file, CACHE);
  } catch (error) {
    throw new StartFailure(`promtool can't be had (${(error as Error).message}). Put it on the PATH.`);
  }
  return join(CACHE, "usr/bin/promtool");
}

/** The queries as rules: promtool checks no other files for their syntax. */
function queriesAsRules(): string {
  const rules = dashboardQueries().map((expr, i) => ({ record: `dashboard:${i}`, expr }));
  const path = join(temporaryFolder(), "dashboard.json");
  // JSON is YAML.
  writeFileSync(path, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
  return path;
}

try {
  const promtool = ensurePromtool();
  for (const args of [
    ["check", "config", "--syntax-only", "prometheus.yml"],
    ["check", "rules", "rules.yml", queriesAsRules()],
    ["test", "rules", "rules.test.yml"],
  ])
    execFileSync(promtool, args, { cwd: MONITORING, stdio: "inherit" });
} catch (error) {
  // promtool has said what is wrong.
  if (error instanceof StartFailure) console.error(error.message);
  process.exitCode = 1;
}
