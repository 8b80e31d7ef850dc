import { resolve } from "node:path";
import type { WorkerOptions } from "miniflare";
import { bundle } from "../src/local/bundle";
import { startLocalService } from "../src/local/service";
import { load, TOKEN } from "./load";
import { showProgress } from "./measure";
import { LIMIT_VARIABLES, WORKLOADS } from "./workloads";

/** What Cloudflare bills for, counted in the service itself. */
export interface Billed {
  readonly placement: string;
  readonly callsPerDecision: number;
  /** Of an admitted decision, for each counter that it is charged to. */
  readonly rowsPerCounter: number;
  /** Calls a second of the object that is called most, while one user floods an isolate. */
  readonly floodCallsPerSecond: number;
}

interface Counts {
  readonly callsByObject: Readonly<Record<string, number>>;
  readonly rowsWritten: number;
}

const DECISIONS = 1_000;
/** Of each: the user's and the address's. */
const COUNTERS = 2;
const FLOOD_SECONDS = 10;

/** Counts for a placement, with the decisions one after the other: none shares a row or a call with another. */
export async function countBilled(placement: "key" | "shards:1", dataDirectory: string): Promise<Billed> {
  showProgress(`counting rows and calls: ${placement}`);
  const workerOptions: Partial<WorkerOptions> = {
    compatibilityDate: "2026-04-24",
    durableObjects: { LIMITER_OBJECTS: { className: "CountingObject", useSQLite: true } },
  };
  const { url, stop } = await startLocalService({
    host: "127.0.0.1",
    port: 0,
    dataDirectory,
    script: await bundle(resolve(import.meta.dirname, "workers/counting.ts")),
    variables: { ...LIMIT_VARIABLES, LIMITER_TOKENS: TOKEN, LIMITER_PLACEMENT: placement },
    workerOptions,
  });
  const counts = async () => {
    const response = await fetch(`${url.origin}/bench/counts`);
    return (await response.json()) as Counts;
  };
  const { admitted, flood } = WORKLOADS;
  // Few, since on one machine an object a key costs open files.
  const bodies = admitted.bodies.slice(0, 20);
  const consume = `${url.origin}/v1/consume`;
  // The first event of a key writes more: its table.
  await load({ url: consume, connections: 1, amount: bodies.length, bodies });
  await load({ url: consume, connections: 1, amount: 20, bodies: flood.bodies });

  const before = await counts();
  await load({ url: consume, connections: 1, amount: DECISIONS, bodies });
  const between = await counts();
  await load({ url: consume, connections: 8, seconds: FLOOD_SECONDS, bodies: flood.bodies });
  const after = await counts();
  await stop();
  const calls = callsSince(before, between).reduce((sum, count) => sum + count, 0);
  return {
    placement,
    callsPerDecision: calls / DECISIONS,
    rowsPerCounter: (between.rowsWritten - before.rowsWritten) / DECISIONS / COUNTERS,
    // Between n calls there are n - 1 intervals.
    floodCallsPerSecond: (Math.max(...callsSince(between, after)) - 1) / FLOOD_SECONDS,
  };
}

/** How often each object was called between two counts. */
function callsSince(before: Counts, after: Counts): number[] {
  return Object.entries(after.callsByObject).map(([name, count]) => count - (before.callsByObject[name] ?? 0));
}
