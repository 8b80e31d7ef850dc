import { join, resolve } from "node:path";
import { cruise, type ICruiseResult } from "dependency-cruiser";
import extractDepcruiseOptions from "dependency-cruiser/config-utl/extract-depcruise-options";
import { expect, test } from "vitest";

const project = resolve(import.meta.dirname, "..");

test("imports run one way", async () => {
  const options = await extractDepcruiseOptions(join(project, ".dependency-cruiser.mjs"));
  const { output } = await cruise(["src", "console", "bench", "scripts", "test", "tools"], {
    ...options,
    validate: true,
    baseDir: project,
  });
  const { summary } = output as ICruiseResult;
  expect(summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`)).toEqual([]);
  expect(summary.totalCruised).toBeGreaterThan(20);
});
