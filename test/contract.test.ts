import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

test.each([
  ["contract.md", 50],
  ["guarantees.md", 9],
  ["security.md", 24],
])("docs/%s names tests that there are", (document, fewestRows) => {
  const sources = readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && path !== "contract.test.ts")
    .map((path) => readFileSync(join(import.meta.dirname, path), "utf8"))
    .join("\n");
  const rows = readFileSync(join(import.meta.dirname, "../docs", document), "utf8")
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
