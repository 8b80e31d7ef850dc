import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What a bare image of Debian has, as far as it is used, and what an administrator installs: sqlite3 and systemd. */
const PACKAGES = ["base-files", "coreutils", "dash", "findutils", "libstdc++6", "sqlite3", "systemd"];

/** The one that Node 24 comes with. */
const NPM_MAJOR = "11";

/** The users of the official images of Node. */
export const USERS = { root: 0, node: 1_000 } as const;
export type User = keyof typeof USERS;

/** Makes a root file system like that of `node:24-…-slim`. It is unpacked only: nothing is installed on this machine. */
export function makeBase(root: string, nodeMajor: string): void {
  const downloads = join(root, "downloads");
  mkdirSync(downloads, { recursive: true });
  unpackDebian(root, downloads);
  unpackNode(root, downloads, nodeMajor);
  rmSync(downloads, { recursive: true });
  for (const name of ["dev", "proc", "tmp"]) mkdirSync(join(root, name), { recursive: true });
  writeUsers(root);
}

/** The packages, with all that they depend on, of this machine's release. */
function unpackDebian(root: string, downloads: string): void {
  const without = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map(
    (kind) => `--no-${kind}`,
  );
  run(downloads, "apt-get", "update", "-qq");
  const tree = run(downloads, "apt-cache", "depends", "--recurse", ...without, ...PACKAGES);
  // apt's own user may not write here.
  const names = new Set(tree.match(/^\w\S*$/gm));
  run(downloads, "apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", ...names);
  for (const name of readdirSync(downloads)) run(downloads, "dpkg", "-x", name, root);
}

function unpackNode(root: string, downloads: string, nodeMajor: string): void {
  const node = unpackPackage(downloads, `node-linux-${process.arch}@${nodeMajor}`);
  const programs = join(root, "usr/local/bin");
  cpSync(join(node, "bin/node"), join(programs, "node"));
  chmodSync(join(programs, "node"), 0o755);
  const npm = unpackPackage(downloads, `npm@${NPM_MAJOR}`);
  cpSync(npm, join(root, "usr/local/lib/node_modules/npm"), { recursive: true });
  for (const name of ["npm", "npx"]) symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(programs, name));
}

function unpackPackage(downloads: string, name: string): string {
  const file = run(downloads, "npm", "pack", "--silent", name).trim();
  run(downloads, "tar", "-xzf", file, "--one-top-level", "--strip-components=1");
  return join(downloads, file.replace(/\.tgz$/, ""));
}

function writeUsers(root: string): void {
  const users = Object.entries(USERS);
  const lines = users.map(([name, id]) => `${name}:x:${id}:${id}::/home/${name}:/bin/sh\n`);
  writeFileSync(join(root, "etc/passwd"), lines.join(""));
  writeFileSync(join(root, "etc/group"), users.map(([name, id]) => `${name}:x:${id}:\n`).join(""));
}

function run(folder: string, program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}
