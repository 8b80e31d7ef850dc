import { readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { resolve } from "node:path";

/** The machine of a run, in one line. */
export function describeHost(): string {
  const [first] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} cores (${first?.model.trim()}), ${memory} GiB, Node ${process.versions.node}, workerd ${versionOf("workerd")}`;
}

/** The version of an installed package. */
export function versionOf(name: string): string {
  const path = resolve(import.meta.dirname, "../node_modules", name, "package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
