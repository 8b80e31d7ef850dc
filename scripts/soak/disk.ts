import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const SIZE_MIB = 512;
const REMOUNT_MS = 20_000;

/** A disk in memory that can be filled and made read-only. Only root can mount it; `isMounted` says whether it is. */
export class Disk {
  readonly folder = mkdtempSync(join(tmpdir(), "limiter-soak-"));
  readonly isMounted: boolean;

  constructor() {
    this.isMounted = this.#mount(["-t", "tmpfs", "-o", `size=${SIZE_MIB}m`, "tmpfs"]);
    process.on("exit", () => {
      if (this.isMounted) execFileSync("umount", ["--lazy", this.folder]);
      rmSync(this.folder, { recursive: true, force: true });
    });
  }

  /** Fills the disk to the last byte. */
  fill(): void {
    const { bavail, bsize } = statfsSync(this.folder);
    const piece = Buffer.alloc(bsize * 256);
    try {
      for (let left = bavail * bsize; left >= 0; left -= piece.length)
        writeFileSync(this.#filler, piece, { flag: "a" });
      for (let left = bavail; left >= 0; left--) writeFileSync(this.#filler, Buffer.alloc(bsize), { flag: "a" });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  }

  empty(): void {
    rmSync(this.#filler, { force: true });
  }

  /** Retries for 20 s: a killed process may hold its files a while, and the disk can't become read-only before. */
  async setWritable(isWritable: boolean): Promise<void> {
    for (const giveUpAtMs = Date.now() + REMOUNT_MS; Date.now() < giveUpAtMs; await sleep(100))
      if (this.#mount(["-o", `remount,${isWritable ? "rw" : "ro"}`])) return;
    throw new Error(`${this.folder} can't be remounted. Does a process still hold files there?`);
  }

  get #filler(): string {
    return join(this.folder, "filler");
  }

  #mount(args: readonly string[]): boolean {
    try {
      execFileSync("mount", [...args, this.folder], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  }
}
