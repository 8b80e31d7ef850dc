import { resolve } from "node:path";
import { bundle } from "../src/local/bundle";
import { load, TOKEN } from "./load";
import { showProgress } from "./measure";
import { startWorker } from "./worker";
import { LIMIT_VARIABLES, WORKLOADS } from "./workloads";

/** The use that Cloudflare bills, counted in the service itself. */
export interface BilledUsage {
  readonly placement: string;
  readonly callsPerDecision: number;
  /** Rows written by an admitted decision, for each of its counters. */
  readonly rowsPerCounter: number;
  /** Calls a second of the busiest object while one user floods an isolate. */
  readonly floodCallsPerSecond: number;
}

interface Counts {
  readonly callsByObject: Readonly<Record<string, number>>;
  readonly rowsWritten: number;
}

const DECISIONS = 1_000;
/** Counters of a decision: the user's and the address's. */
const COUNTERS = 2;
const FLOOD_SECONDS = 10;

/** Counts for a placement. Decisions are sent one after the other, so that none shares a row or a call. */
export async function countBilled(placement: "key" | "shards:1", dataDirectory: string): Promise<BilledUsage> {
  showProgress(`counting rows and calls: ${placement}`);
  const { url, stop } = await startWorker({
    dataDirectory,
    script: await bundle(resolve(import.meta.dirname, "workers/counting.ts")),
    variables: { ...LIMIT_VARIABLES, LIMITER_TOKENS: TOKEN, LIMITER_PLACEMENT: placement },
    objects: { LIMITER_OBJECTS: "CountingObject" },
  });
  const counts = async () => {
    const response = await fetch(`${url.origin}/bench/counts`);
    return (await response.json()) as Counts;
  };
  const { admitted, flood } = WORKLOADS;
  // Few bodies, since on one machine an object for each key costs open files.
  const bodies = admitted.bodies.slice(0, 20);
  const consume = `${url.origin}/v1/consume`;
  // The first event of a key also writes the object's table.
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
