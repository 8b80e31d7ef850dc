import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Root } from "./root";

const CGROUPS = "/sys/fs/cgroup";
/** Where systemd keeps its control groups: in the one hierarchy, or in two beside those of earlier kernels. */
const HIERARCHIES = existsSync(join(CGROUPS, "cgroup.controllers")) ? [""] : ["systemd", "unified"];

/** systemd shares the kernel and the network of this machine, and can change no setting of them. */
const BOOT = `cd "$1"
mount --bind . .
cd .
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ "$2" = 1 ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
for folder in dev run tmp; do mount -t tmpfs tmpfs $folder; done
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 dev/\${device%:*} c 1 \${device#*:}; done
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir -p before
pivot_root . before
umount -l before
exec env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-target=null`;

/** A root file system on which systemd runs, in namespaces and control groups of its own. */
export class Machine {
  readonly #ended: Promise<unknown>;

  private constructor(
    readonly root: Root,
    readonly process: ChildProcess,
    readonly groups: readonly string[],
  ) {
    this.#ended = once(process, "close");
    const kill = () => this.process.kill("SIGKILL");
    process.once("close", () => globalThis.process.off("exit", kill));
    globalThis.process.on("exit", kill);
  }

  static async boot(root: Root): Promise<Machine> {
    // Units that are for a machine with hardware.
    execFileSync("sh", ["-c", 'rm -r "$0"/*.wants', join(root.path, "lib/systemd/system")]);
    const groups = HIERARCHIES.map((name) => join(CGROUPS, name, `exact-limiter-${process.pid}`));
    for (const group of groups) mkdirSync(group, { recursive: true });
    const enter = groups.map((group) => `echo $$ > ${group}/cgroup.procs\n`).join("");
    const spaces = ["--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--kill-child"];
    const command = `${enter}exec unshare ${spaces.join(" ")} sh -ec "$0" sh "$@"`;
    const child = spawn("sh", ["-ec", command, BOOT, root.path, String(HIERARCHIES.length)], { stdio: "inherit" });
    const machine = new Machine(root, child, groups);
    while (!machine.#isUp()) await sleep(50);
    return machine;
  }

  /** What a command prints on the machine. */
  run(line: string): string {
    const { pid } = this.process;
    const [init = ""] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ");
    // Before that the namespaces show this machine, which may have a systemd of its own.
    if (readFileSync(`/proc/${init}/comm`, "utf8") !== "systemd\n") throw new Error("systemd has not started yet.");
    const spaces = ["--mount", "--pid", "--cgroup", "--uts", "--ipc"];
    return execFileSync("nsenter", ["--target", init, ...spaces, "sh", "-ec", line], {
      encoding: "utf8",
      stdio: "pipe",
    });
  }

  /** A property of the unit, as `systemctl show` tells it. */
  property(name: string): string {
    return this.run(`systemctl show exact-limiter --property=${name} --value`).trim();
  }

  async end(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.#ended;
    // A group is busy until its last process is gone.
    for (const group of this.groups)
      while (existsSync(group)) {
        spawnSync("find", [group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
        await sleep(20);
      }
  }

  #isUp(): boolean {
    if (this.process.exitCode !== null) throw new Error(`systemd ended with ${this.process.exitCode}.`);
    try {
      return this.run("systemctl is-active basic.target").trim() === "active";
    } catch {
      return false;
    }
  }
}
