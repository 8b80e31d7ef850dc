import { drawChart } from "../tools/chart";
import { format, table, writeSection } from "../tools/document";
import { type Measured, measureScenarios, PYTHON_PACKAGES } from "./in-process/run";
import { SCENARIOS, SPREAD } from "./in-process/scenarios";
import { describeMachine } from "./machine";
import type { Extent } from "./measure";
import { LUA_PEER, SERVICE } from "./names";
import { stopPrograms } from "./programs";
import { type Target, targetLines, targetTable } from "./targets";

/** The load at which latencies are compared, as a share of the most that the script does in the process. */
const SHARE_OF_MOST = 0.6;

/** Sessions and the Python client beside what a backend would do in its own process. Writes docs/benchmarks.md. */
export async function benchInProcess(extent: Extent): Promise<void> {
  const measured = await measureScenarios(SCENARIOS, extent);
  const most = measured.find(({ scenario, side }) => scenario === SPREAD && side.side === SPREAD.peer)?.perSecond ?? 0;
  const offered = most * SHARE_OF_MOST;
  const latencies = await measureScenarios(
    [{ ...SPREAD, sides: SPREAD.sides.filter(({ series }) => series === SERVICE || series === LUA_PEER) }],
    extent,
    offered,
  );
  stopPrograms();
  const targets = measured.flatMap((one) => targetsOf(one, peerOf(one, measured)));

  drawResults(measured);
  const machine = describeMachine(["ioredis", "rate-limiter-flexible"], PYTHON_PACKAGES);
  const results = [resultTable(measured), latencyTable(latencies, offered)];
  writeSection(
    "in-process",
    [
      `\`npm run bench -- --only in-process --rounds ${extent.rounds} --seconds ${extent.seconds}\`: medians. ${machine}.`,
      "![Decisions a second of each side](images/bench-in-process.svg)",
      ...results,
      targetTable(targets),
    ].join("\n\n"),
  );
  console.log(`${[...results, targetLines(targets)].join("\n\n")}\n\nWritten to docs/benchmarks.md.`);
}

function peerOf({ scenario }: Measured, measured: readonly Measured[]): Measured {
  return measured.find((each) => each.scenario === scenario && each.side.side === scenario.peer) as Measured;
}

function targetsOf({ scenario, side, perSecond, clientMicros }: Measured, peer: Measured): Target[] {
  const targets: Target[] = [];
  const name = `${scenario.name}: ${side.name}`;
  if (side.atLeast !== undefined) targets.push({ name, measured: perSecond / peer.perSecond, atLeast: side.atLeast });
  if (side.processorAtLeast !== undefined)
    targets.push({
      name: "processor time of the client, the peer's beside it",
      measured: peer.clientMicros / clientMicros,
      atLeast: side.processorAtLeast,
    });
  return targets;
}

function resultTable(measured: readonly Measured[]): string {
  const rows = measured.map((one, i) => {
    const { scenario, side, perSecond, p99Ms, clientMicros, serverMicros } = one;
    const isFirst = measured[i - 1]?.scenario !== scenario;
    const ratio = format(perSecond / peerOf(one, measured).perSecond);
    return [
      `${isFirst ? `**${scenario.name}**: ` : ""}${side.name}: ${side.promises}`,
      ...[perSecond, p99Ms, clientMicros, serverMicros].map(format),
      ratio,
    ];
  });
  return table(["", "decisions/s", "p99 ms", "client, µs", "server, µs", "of the peer's"], rows);
}

function latencyTable(latencies: readonly Measured[], offered: number): string {
  const rows = latencies.map(({ side, perSecond, p50Ms, p99Ms }) => [
    side.name,
    ...[offered, perSecond, p50Ms, p99Ms].map(format),
  ]);
  return table(["Node, at equal load", "offered/s", "answered/s", "p50 ms", "p99 ms"], rows);
}

function drawResults(measured: readonly Measured[]): void {
  const names = [...new Set(measured.map(({ side }) => side.series))];
  drawChart("bench-in-process", {
    title: "decisions a second",
    kind: "bar",
    categories: SCENARIOS.map(({ label }) => label),
    series: names.map((name) => ({
      name,
      values: SCENARIOS.map((scenario) => {
        const found = measured.find((each) => each.scenario === scenario && each.side.series === name);
        return found ? Math.round(found.perSecond) : null;
      }),
    })),
  });
}
