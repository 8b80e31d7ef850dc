import { join } from "node:path";
import { drawChart } from "../tools/chart";
import { format, table, writeSection } from "../tools/document";
import { temporaryFolder } from "../tools/temporary-folder";
import { growConnections } from "./growth/connections";
import { growKeys } from "./growth/keys";
import { growLog } from "./growth/log";
import { describeMachine } from "./machine";
import type { Extent } from "./measure";
import { type Target, targetLines, targetTable } from "./targets";

const GIB = 2 ** 30;

/** Measures the service with growing keys, logs and connections. Prints the targets and writes docs/benchmarks.md. */
export async function benchGrowth(extent: Extent): Promise<void> {
  const folder = temporaryFolder();
  const keys = await growKeys(join(folder, "keys"), extent);
  const log = await growLog(join(folder, "log"), extent);
  const connections = await growConnections(join(folder, "connections"), extent);

  const speedAt = (count: number) => keys.find((each) => each.keys === count)?.perSecond ?? Number.NaN;
  const logAt = (count: number) => log.find((each) => each.events === count);
  const [short, long] = [logAt(10), logAt(100_000)];
  const files = [...keys, ...connections].map(({ openFiles }) => openFiles);
  const targets: Target[] = [
    {
      name: "consume, 100,000 events in the log against 10, warm",
      measured: (short?.consumeMs ?? Number.NaN) / (long?.consumeMs ?? Number.NaN),
      atLeast: 0.9,
    },
    {
      name: "check, the same, decisions a second",
      measured: (long?.checksPerSecond ?? Number.NaN) / (short?.checksPerSecond ?? Number.NaN),
      atLeast: 0.9,
    },
    { name: "1,000,000 keys against 1,000", measured: speedAt(1_000_000) / speedAt(1_000), atLeast: 0.7 },
    {
      name: "most resident memory, GiB",
      measured: Math.max(...keys.map((each) => each.residentBytes)) / GIB,
      atMost: 1,
    },
    { name: "most open files", measured: Math.max(...files), atMost: 200 },
  ];

  drawChart("bench-keys", {
    title: "keys on one machine",
    kind: "line",
    categories: keys.map((each) => each.keys.toLocaleString("en")),
    categoryLabel: "keys",
    series: [
      { name: "decisions a second", values: keys.map((each) => Math.round(each.perSecond)) },
      { name: "resident memory, MiB", values: keys.map((each) => Math.round(each.residentBytes / 2 ** 20)) },
    ],
  });
  drawChart("bench-log", {
    title: "events in the log: milliseconds of a decision",
    kind: "line",
    categories: log.map((each) => each.events.toLocaleString("en")),
    categoryLabel: "events",
    series: [
      { name: "warm", values: log.map((each) => round(each.consumeMs)) },
      { name: "first after an eviction", values: log.map((each) => round(each.coldMs)) },
    ],
  });
  drawChart("bench-connections", {
    title: "connections: decisions a second",
    kind: "line",
    categories: connections.map((each) => String(each.connections)),
    categoryLabel: "connections",
    series: [{ name: "admitted, two layers", values: connections.map((each) => Math.round(each.perSecond)) }],
  });

  const mib = (bytes: number) => format(bytes / 2 ** 20);
  const tables = [
    table(
      ["keys", "decisions/s", "resident MiB", "open files"],
      keys.map((each) => [
        each.keys.toLocaleString("en"),
        ...[format(each.perSecond), mib(each.residentBytes), String(each.openFiles)],
      ]),
    ),
    table(
      ["events in the log", "consume, warm, ms", "checks/s, warm", "first after an eviction, ms"],
      log.map((each) => [
        each.events.toLocaleString("en"),
        ...[each.consumeMs, each.checksPerSecond, each.coldMs].map(format),
      ]),
    ),
    table(
      ["connections", "decisions/s", "p50 ms", "p99 ms", "open files"],
      connections.map((each) => [
        String(each.connections),
        ...[each.perSecond, each.p50Ms, each.p99Ms].map(format),
        String(each.openFiles),
      ]),
    ),
  ];
  writeSection(
    "growth",
    [
      `\`npm run bench -- growth --rounds ${extent.rounds} --seconds ${extent.seconds}\`: medians. ${describeMachine()}.`,
      ...["keys", "log", "connections"].flatMap((name, i) => [`![${name}](images/bench-${name}.svg)`, tables[i] ?? ""]),
      targetTable(targets),
    ].join("\n\n"),
  );
  console.log(`${[...tables, targetLines(targets)].join("\n\n")}\n\nWritten to docs/benchmarks.md.`);
}

const round = (value: number) => Math.round(value * 100) / 100;
