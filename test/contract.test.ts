import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

test.each([
  ["docs/contract.md", 50],
  ["docs/guarantees.md", 9],
  ["docs/security.md", 24],
  ["README.md", 9],
])("%s names tests that there are", (document, fewestRows) => {
  const sources = readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && path !== "contract.test.ts")
    .map((path) => readFileSync(join(import.meta.dirname, path), "utf8"))
    .join("\n");
  const text = readFileSync(join(import.meta.dirname, "..", document), "utf8");
  // Other tables of the README are about other things.
  const rows = (text.split("## What is guaranteed")[1] ?? text)
    .split("\n")
    .filter((line) => /^\| .* \|$/.test(line) && /`[^`]+` +\|$|simulation/.test(line));
  expect(rows.length).toBeGreaterThanOrEqual(fewestRows);
  for (const row of rows) {
    const titles = [...(row.split("|").at(-2) ?? "").matchAll(/`([^`]+)`/g)]
      .map(([, title = ""]) => title)
      .filter((title) => !title.startsWith("npm "));
    expect([row, titles.length > 0]).toEqual([row, true]);
    for (const title of titles) expect([title, sources.includes(JSON.stringify(title))]).toEqual([title, true]);
  }
});
