import { join } from "node:path";
import { drawChart } from "../tools/chart";
import { format, table, writeSection } from "../tools/document";
import { temporaryFolder } from "../tools/temporary-folder";
import { countBilled } from "./billed";
import { type Contestant, startArena } from "./contestants";
import { measureCountingCost } from "./counting-cost";
import type { Floor } from "./floors";
import { type LatencyAtLoad, measureLatencies } from "./latency";
import { describeMachine } from "./machine";
import { type Extent, type Measurement, measureAll } from "./measure";
import { LUA_PEER, SERVICE } from "./names";
import { stopPrograms } from "./programs";
import { targetLines, targetsOf, targetTable } from "./targets";
import { WORKLOADS, type WorkloadName } from "./workloads";

const NAMES = Object.keys(WORKLOADS) as WorkloadName[];
/** The load at which latencies are compared, as a share of the most that the Lua peer can do. */
const SHARE_OF_MOST = 0.6;

/** The main run: this service, its peers and the floors side by side. Prints the targets and writes docs/benchmarks.md. */
export async function benchThroughput(extent: Extent): Promise<void> {
  const arena = await startArena();
  const { contestants, floors } = arena;
  const measured = await measureAll(arena, extent);
  const most = perSecond(measured, LUA_PEER, "admitted");
  await arena.clear();
  const compared = contestants.filter(({ name }) => name === SERVICE || name === LUA_PEER);
  const latencies = await measureLatencies(compared, most * SHARE_OF_MOST, extent);
  await arena.stop();
  stopPrograms();
  const folder = temporaryFolder();
  const billed = [await countBilled("key", join(folder, "key")), await countBilled("shards:1", join(folder, "shards"))];
  const countingCost = await measureCountingCost(extent, join(folder, "counts"));
  const targets = [
    ...targetsOf(measured, latencies, billed),
    { name: "admitted, with decisions counted, beside without", measured: countingCost, atLeast: 0.97 },
  ];

  drawChart("bench-throughput", {
    title: "decisions a second",
    kind: "bar",
    categories: NAMES.filter((name) => name !== "batch"),
    series: contestants.map(({ name }) => ({
      name,
      values: NAMES.filter((each) => each !== "batch").map((each) => finite(perSecond(measured, name, each))),
    })),
  });
  const results = [decisionTable(contestants, measured), floorTable(floors, measured), latencyTable(latencies)];
  writeSection(
    "throughput",
    [
      `\`npm run bench -- --rounds ${extent.rounds} --seconds ${extent.seconds}\`: medians. ${describeMachine()}.`,
      "![Decisions a second of each workload](images/bench-throughput.svg)",
      ...results,
      targetTable(targets),
    ].join("\n\n"),
  );
  console.log(`${[...results, targetLines(targets)].join("\n\n")}\n\nWritten to docs/benchmarks.md.`);
}

function perSecond(measured: readonly Measurement[], name: string, workload: WorkloadName): number {
  return measured.find((each) => each.name === name && each.workload === workload)?.decisionsPerSecond ?? Number.NaN;
}

const finite = (value: number) => (Number.isNaN(value) ? null : Math.round(value));

/** A table of decisions a second, their ratio to the Lua peer's, and the guarantees of each contestant. */
function decisionTable(contestants: readonly Contestant[], measured: readonly Measurement[]): string {
  const rows = contestants.map(({ name, guarantees }) => {
    const cells = NAMES.map((workload) => {
      const own = perSecond(measured, name, workload);
      return `${format(own)} (${format(own / perSecond(measured, LUA_PEER, workload))})`.replace("– (–)", "–");
    });
    return [`**${name}**: ${guarantees}`, ...cells];
  });
  return table(["decisions/s (of the Lua peer's)", ...NAMES], rows);
}

function floorTable(floors: readonly Floor[], measured: readonly Measurement[]): string {
  const rows = floors.map(({ name, description }) => [description, format(perSecond(measured, name, "admitted"))]);
  return table(["floors, on the runtime of `npm start`", "answers/s"], rows);
}

function latencyTable(latencies: readonly LatencyAtLoad[]): string {
  const rows = latencies.map(({ name, offeredPerSecond, answeredPerSecond, p50Ms, p99Ms }) => [
    name,
    ...[offeredPerSecond, answeredPerSecond, p50Ms, p99Ms].map(format),
  ]);
  return table(["admitted, at equal load", "offered/s", "answered/s", "p50 ms", "p99 ms"], rows);
}
