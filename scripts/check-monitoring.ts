import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { StartFailure } from "../src/local/failure";
import { debianProgram } from "../tools/debian-program";
import { dashboardQueries, MONITORING } from "../tools/monitoring";
import { temporaryFolder } from "../tools/temporary-folder";

/**
 * `npm run check:monitoring` has promtool check the Prometheus configuration, the alerts and their tests, and the queries of
 * the dashboard. Without a promtool it unpacks that of Debian's package, and installs nothing.
 */

/** The queries as rules: promtool checks no other files for their syntax. */
function queriesAsRules(): string {
  const rules = dashboardQueries().map((expr, i) => ({ record: `dashboard:${i}`, expr }));
  const path = join(temporaryFolder(), "dashboard.json");
  // JSON is YAML.
  writeFileSync(path, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
  return path;
}

try {
  const promtool = debianProgram("promtool", "prometheus");
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
