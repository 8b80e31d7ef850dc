import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { StartFailure } from "../src/local/failure";

/**
 * The path of a program: on the PATH, else unpacked from Debian's package, which installs nothing.
 * @throws StartFailure if the package can't be had
 */
export function debianProgram(program: string, debianPackage = program): string {
  const cache = resolve(import.meta.dirname, "../node_modules/.cache", debianPackage);
  const folders = [...(process.env.PATH ?? "").split(":"), join(cache, "usr/bin"), join(cache, "usr/sbin")];
  const find = () => folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
  const found = find();
  if (found) return found;
  mkdirSync(cache, { recursive: true });
  const run = (command: string, ...args: readonly string[]) =>
    execFileSync(command, args, { cwd: cache, stdio: ["ignore", "ignore", process.stderr] });
  try {
    run("apt-get", "update", "-qq");
    // apt's own user may not write here.
    run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", debianPackage);
    for (const file of readdirSync(cache)) if (file.endsWith(".deb")) run("dpkg", "-x", file, cache);
  } catch (error) {
    throw new StartFailure(`${program} can't be had (${(error as Error).message}). Put it on the PATH.`);
  }
  const unpacked = find();
  if (unpacked) return unpacked;
  throw new StartFailure(`Debian's package ${debianPackage} has no ${program}. Put it on the PATH.`);
}
