import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PROJECT } from "../package/newcomer";
import { makeBase, USERS, type User } from "./base";

const CACHE = join(PROJECT, "node_modules/.cache/self-host");

export interface Conditions {
  readonly user?: User;
  readonly folder?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Folders and files of this machine, by the path at which they are seen. */
  readonly binds?: Readonly<Record<string, string>>;
  /** Nothing but `/tmp` and the binds can be written. */
  readonly isReadOnly?: boolean;
}

/**
 * Mounts end with the process: the namespace is its own. `$1` is the root, `$2` whether it is read-only. Binds follow, up to `--`.
 */
const ENTER = `root=$1; isReadOnly=$2; shift 2
mount --bind "$root" "$root"
[ "$isReadOnly" = false ] || mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o noexec,nosuid,nodev tmpfs "$root/tmp"
chmod 1777 "$root/tmp"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec "$@"`;

/** A root file system, and processes in it as a container has them: the first of their own process namespace. */
export class Root {
  constructor(readonly path: string) {}

  /** A bare Debian of this machine's release, and Node of a major version with its npm: what `FROM node:24-…-slim` has. */
  static base(nodeMajor: string): Root {
    const base = join(CACHE, `node-${nodeMajor}`);
    if (!existsSync(base)) {
      rmSync(`${base}.partial`, { recursive: true, force: true });
      makeBase(`${base}.partial`, nodeMajor);
      renameSync(`${base}.partial`, base);
    }
    return new Root(base);
  }

  copy(): Root {
    mkdirSync(CACHE, { recursive: true });
    const path = mkdtempSync(join(CACHE, "root-"));
    execFileSync("cp", ["-a", `${this.path}/.`, path]);
    return new Root(path);
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true, maxRetries: 3 });
  }

  spawn(command: readonly string[], conditions: Conditions = {}): ChildProcess {
    const { user = "root", folder = "/", environment = {}, binds = {}, isReadOnly = false } = conditions;
    for (const [path, source] of Object.entries(binds)) this.#makePlace(path, source);
    const variables = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...environment };
    const id = USERS[user];
    return spawn("unshare", [
      ...["--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-ec", ENTER, "sh", this.path, String(isReadOnly)],
      ...Object.entries(binds).flatMap(([path, source]) => [source, path]),
      ...["--", "chroot", `--userspec=${id}:${id}`, "--groups=", this.path],
      ...["/usr/bin/env", "--ignore-environment", `--chdir=${folder}`],
      ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
      ...command,
    ]);
  }

  async run(command: readonly string[], conditions: Conditions = {}): Promise<{ code: number; output: string }> {
    const child = this.spawn(command, conditions);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
    const code = await new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? -1)));
    return { code, output };
  }

  #makePlace(path: string, source: string): void {
    const place = join(this.path, path);
    if (existsSync(place)) return;
    if (statSync(source).isDirectory()) mkdirSync(place, { recursive: true });
    else {
      mkdirSync(dirname(place), { recursive: true });
      writeFileSync(place, "");
    }
  }
}
