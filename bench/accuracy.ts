import { parseArgs } from "node:util";
import { temporaryFolder } from "../tools/temporary-folder";
import { type CrashRun, replayWithCrash } from "./accuracy/crash";
import type { Peer } from "./accuracy/peers/peer";
import { type Replayed, replay } from "./accuracy/replay";
import { crashTable, isExact, mainTable, writeReport } from "./accuracy/report";
import { startCrashable, startRoster, startShortRoster, VERSIONS } from "./accuracy/roster";
import { CONTAINERS, LIMITS, makeTraces } from "./accuracy/traces";
import { showProgress } from "./measure";
import { SERVICE } from "./names";
import { stopPrograms } from "./programs";

/**
 * `npm run accuracy` sends the same traffic to this service and its peers, judges every decision, and kills each in the
 * middle of a trace. It takes about four minutes and writes docs/accuracy.md.
 * `npm run accuracy -- --short` sends three traces to this service and to limiters in each container's memory, in a minute.
 * Both fail unless this service is exact. `--seed N` makes other traces.
 */
const { values } = parseArgs({
  options: { short: { type: "boolean", default: false }, seed: { type: "string", default: "1" } },
});
const seed = Number(values.seed);
if (!Number.isSafeInteger(seed) || seed < 1) {
  console.error("Usage: npm run accuracy -- [--short] [--seed N]");
  process.exit(1);
}

const folder = temporaryFolder();
const longestMs = Math.max(...LIMITS.map(({ windowMs }) => windowMs));
const nextStartMs = () => Math.ceil((Date.now() + 100) / longestMs) * longestMs;

/** Sends a request through each container, so that everything has started before the traces. */
async function warmUp(peers: readonly Peer[], containers = CONTAINERS): Promise<void> {
  const request = { atMs: 0, user: "warm-up", ip: "192.0.2.1", cost: 1, isRetry: false };
  const requests = Array.from({ length: containers }, (_, container) => ({
    ...request,
    container,
    key: `w${container}`,
  }));
  await Promise.all(peers.flatMap((peer) => requests.map((each) => peer.decide(each))));
}

/** Fails if a peer answered with an error: that is a fault of the setup, not an inexact decision. */
function assertAnswered(replayed: readonly Replayed[]): void {
  for (const { peer, trace, observed } of replayed)
    for (const { outcome, failure } of observed)
      if (outcome === "unknown")
        throw new Error(`${peer.name} did not answer in ${trace.name}: ${failure ?? "too late"}`);
}

/** Prints whether this service is exact. Fails if it is not, or if the judge finds counters in memory exact. */
function conclude(peers: readonly Peer[], replayed: readonly Replayed[], crashRuns: readonly CrashRun[]): void {
  const [service, memory] = peers;
  const own = [...replayed, ...crashRuns].filter(({ peer }) => peer.name === SERVICE);
  const inMemory = replayed.filter(({ peer }) => peer === memory);
  if (service?.name === SERVICE && isExact(own)) console.log("This service is exact.");
  else {
    console.error("This service is NOT exact.");
    process.exitCode = 1;
  }
  if (isExact(inMemory)) {
    console.error("Counters in ten containers' memory were found exact: the judge is blind.");
    process.exitCode = 1;
  }
}

async function short(): Promise<void> {
  const traces = makeTraces(seed, ["bursts", "spread", "tokens"]);
  const peers = await startShortRoster(folder);
  await warmUp(peers);
  const startMs = nextStartMs();
  const replayed = (await Promise.all(traces.map((trace) => replay(trace, peers, startMs)))).flat();
  await Promise.all(peers.map((peer) => peer.stop?.()));
  assertAnswered(replayed);
  console.log(mainTable(peers, replayed));
  conclude(peers, replayed, []);
}

async function long(): Promise<void> {
  const traces = makeTraces(seed);
  const peers = await startRoster(folder);
  await warmUp(peers);
  const replayed: Replayed[] = [];
  for (const trace of traces) {
    showProgress(`${trace.name}: ${trace.description}`);
    replayed.push(...(await replay(trace, peers, nextStartMs())));
  }
  await Promise.all(peers.map((peer) => peer.stop?.()));
  assertAnswered(replayed);
  showProgress("crash");
  const crashable = await startCrashable(folder);
  await warmUp(crashable, 1);
  const crashRuns = await replayWithCrash(seed, crashable);
  await Promise.all(crashable.map((peer) => peer.stop?.()));
  showProgress("");
  const command = `npm run accuracy${seed === 1 ? "" : ` -- --seed ${seed}`}`;
  writeReport({ command, versions: VERSIONS, traces, peers, replayed, crashRuns });
  console.log(`${mainTable(peers, replayed)}\n\n${crashTable(crashRuns)}\n\nWritten to docs/accuracy.md.`);
  conclude(peers, replayed, crashRuns);
}

await (values.short ? short() : long());
stopPrograms();
// Do not wait for handles that stopped programs still hold.
process.exit();
