import { parseArgs } from "node:util";
import { temporaryFolder } from "../tools/temporary-folder";
import { type Hurt, hurtAll } from "./accuracy/hurt";
import type { Peer } from "./accuracy/peers/peer";
import { type Replayed, replay } from "./accuracy/replay";
import { hurtTable, isExact, mainTable, writeReport } from "./accuracy/report";
import { startAll, startTwo, startVictims, VERSIONS } from "./accuracy/roster";
import { CONTAINERS, LIMITS, makeTraces } from "./accuracy/traces";
import { showProgress } from "./measure";
import { SERVICE } from "./names";
import { stopPrograms } from "./programs";

/**
 * `npm run accuracy`: the same traffic for this service and its peers, judged by what was recorded, and what becomes of
 * it when something is killed; some four minutes. It writes docs/accuracy.md.
 * `npm run accuracy -- --short`: two traces, this service and a limiter in each container's memory, within a minute.
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

/** What starts when it is first asked starts before it counts. */
async function warmUp(peers: readonly Peer[], containers = CONTAINERS): Promise<void> {
  const request = { atMs: 0, user: "warm-up", ip: "192.0.2.1", cost: 1, isRetry: false };
  const requests = Array.from({ length: containers }, (_, container) => ({
    ...request,
    container,
    key: `w${container}`,
  }));
  await Promise.all(peers.flatMap((peer) => requests.map((each) => peer.decide(each))));
}

/** A peer that answers with errors is not judged, but mended. */
function assertAnswered(replayed: readonly Replayed[]): void {
  for (const { peer, trace, observed } of replayed)
    for (const { outcome, failure } of observed)
      if (outcome === "unknown")
        throw new Error(`${peer.name} did not answer in ${trace.name}: ${failure ?? "too late"}`);
}

/** Prints what is wrong with this service, or with what should have been caught. */
function conclude(peers: readonly Peer[], replayed: readonly Replayed[], hurt: readonly Hurt[]): void {
  const [service, memory] = peers;
  const own = [...replayed, ...hurt].filter(({ peer }) => peer.name === SERVICE);
  const ofMemory = replayed.filter(({ peer }) => peer === memory);
  if (service?.name === SERVICE && isExact(own)) console.log("This service is exact.");
  else {
    console.error("This service is NOT exact.");
    process.exitCode = 1;
  }
  if (isExact(ofMemory)) {
    console.error("Counters in ten containers' memory were found exact: the judge is blind.");
    process.exitCode = 1;
  }
}

async function short(): Promise<void> {
  const traces = makeTraces(seed, ["bursts", "spread"]);
  const peers = await startTwo(folder);
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
  const peers = await startAll(folder);
  await warmUp(peers);
  const replayed: Replayed[] = [];
  for (const trace of traces) {
    showProgress(`${trace.name}: ${trace.says}`);
    replayed.push(...(await replay(trace, peers, nextStartMs())));
  }
  await Promise.all(peers.map((peer) => peer.stop?.()));
  assertAnswered(replayed);
  showProgress("hurt");
  const victims = await startVictims(folder);
  await warmUp(victims, 1);
  const hurt = await hurtAll(seed, victims);
  await Promise.all(victims.map((victim) => victim.stop?.()));
  showProgress("");
  const command = `npm run accuracy${seed === 1 ? "" : ` -- --seed ${seed}`}`;
  writeReport({ command, versions: VERSIONS, traces, peers, replayed, hurt });
  console.log(`${mainTable(peers, replayed)}\n\n${hurtTable(hurt)}\n\nWritten to docs/accuracy.md.`);
  conclude(peers, replayed, hurt);
}

await (values.short ? short() : long());
stopPrograms();
// Whatever a program that was stopped still holds open is not waited for.
process.exit();
