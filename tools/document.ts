import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

export { table } from "../src/cli/table";

/** A document in `docs`, and the command that writes sections of it. */
export interface Document {
  readonly name: string;
  readonly command: string;
}

const BENCHMARKS: Document = { name: "benchmarks.md", command: "npm run bench" };

/** Replaces the text between a document's markers of this name. The rest of the document is written by hand. */
export function writeSection(name: string, markdown: string, { name: document, command } = BENCHMARKS): void {
  const path = resolve(import.meta.dirname, "../docs", document);
  const text = readFileSync(path, "utf8");
  const [start, end] = [`<!-- ${name}: written by ${command} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [text.indexOf(start), text.indexOf(end)];
  if (from < 0 || to < from)
    throw new Error(`${path} has no markers of the section ${name}. Add "${start}" and "${end}".`);
  writeFileSync(path, `${text.slice(0, from)}${start}\n\n${markdown}\n\n${text.slice(to)}`);
}

/** A number for readers: three significant digits, thousands separated. */
export function format(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
