import { resolve } from "node:path";
import { spawnProgram, startRestartable } from "../../programs";
import { keyOf, type Limit } from "../traces";
import type { CrashablePeer } from "./peer";

const SERVER = resolve(import.meta.dirname, "cloudflare-server.ts");
const PERIODS_MS = [10_000, 60_000];

/** The rate limiting binding as Miniflare simulates it: periods of 10 or 60 seconds, no costs, no wait. */
export async function startCloudflare(limits: readonly Limit[]): Promise<CrashablePeer> {
  const own = limits.filter(({ windowMs }) => PERIODS_MS.includes(windowMs));
  const bindings = own.map(({ layer, max, windowMs }) => [layer, { simple: { limit: max, period: windowMs / 1_000 } }]);
  const env = { BINDINGS: JSON.stringify(Object.fromEntries(bindings)) };
  const server = await startRestartable(() =>
    spawnProgram(process.execPath, ["--import", "tsx", SERVER], /(http:\S+)/, { env }),
  );
  return {
    name: "Cloudflare's binding in Miniflare",
    limits: own,
    shortcomings: "periods of 10 and 60 s alone; no costs; one limit after the other; no idempotency key; no wait",
    skippedTraces: ["costs", "tokens"],
    windowsSeen: 1,
    async decide(request) {
      const query = new URLSearchParams(own.map((limit) => [limit.layer, keyOf(limit, request)]));
      const response = await fetch(`${server.match}?${query}`);
      const text = await response.text();
      if (response.status !== 200 && response.status !== 429) throw new Error(text);
      return { allowed: response.status === 200 };
    },
    killedPart: "Miniflare",
    killAndRestart: () => server.restart(),
  };
}
