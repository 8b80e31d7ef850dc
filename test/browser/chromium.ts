import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { StartFailure } from "../../src/local/failure";

const CHROMIUM = "/usr/bin/chromium";

/** Arguments with which Chromium sends no requests of its own. */
export const CHROMIUM_ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Installs Debian's Chromium unless it is installed.
 * @returns its path
 * @throws StartFailure if it can't be installed on this machine
 */
export function ensureChromium(): string {
  if (existsSync(CHROMIUM)) return CHROMIUM;
  console.error("Installing Chromium");
  try {
    for (const args of [
      ["update", "-qq"],
      ["install", "-qq", "--yes", "--no-install-recommends", "chromium", "fonts-inter"],
    ])
      execFileSync("apt-get", args, {
        env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
        stdio: ["ignore", "ignore", process.stderr],
      });
  } catch (error) {
    throw new StartFailure(
      `${(error as Error).message}\nInstall Chromium at ${CHROMIUM}, or run the tests as root on Debian.`,
    );
  }
  return CHROMIUM;
}
