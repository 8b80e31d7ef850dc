import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

/** A document, and the command that writes sections of it. */
export interface Document {
  readonly name: string;
  readonly command: string;
}

const BENCHMARKS: Document = { name: "benchmarks.md", command: "npm run bench" };

/** Replaces what stands in a document between the markers of this name; around them anybody may write. */
export function writeSection(name: string, markdown: string, { name: document, command } = BENCHMARKS): void {
  const path = resolve(import.meta.dirname, "../docs", document);
  const before = readFileSync(path, "utf8");
  const [start, end] = [`<!-- ${name}: written by ${command} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [before.indexOf(start), before.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has no markers of ${name}`);
  writeFileSync(path, `${before.slice(0, from)}${start}\n\n${markdown}\n\n${before.slice(to)}`);
}

/** A table, its first column of words and the rest of numbers. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

/** A number as one reads it: three digits that count, thousands apart. */
export function format(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
