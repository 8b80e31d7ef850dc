import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Bar, isMet } from "./bars";

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

/** The bars as a table. */
export function barTable(bars: readonly Bar[]): string {
  const rows = bars.map((bar) => [bar.what, format(bar.measured), asked(bar), isMet(bar) ? "yes" : "**no**"]);
  return table(["", "measured", "asked", "met"], rows);
}

/** The bars as lines of a terminal. */
export function barLines(bars: readonly Bar[]): string {
  return bars
    .map((bar) => {
      const verdict = isMet(bar) ? "met" : Number.isNaN(bar.measured) ? "NOT MEASURED" : "NOT MET";
      return `${bar.what.padEnd(62)} ${format(bar.measured).padStart(9)}   asked ${asked(bar).padEnd(14)} ${verdict}`;
    })
    .join("\n");
}

/** A number as one reads it: three digits that count, thousands apart. */
export function format(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

function asked({ atLeast, atMost }: Bar): string {
  return atLeast === undefined ? `at most ${format(atMost ?? Number.NaN)}` : `at least ${format(atLeast)}`;
}
