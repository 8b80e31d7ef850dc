import { drawChart } from "../../tools/chart";
import { table, writeSection } from "../../tools/document";
import { describeMachine } from "../machine";
import type { CrashRun } from "./crash";
import type { Verdict } from "./judge";
import type { Peer } from "./peers/peer";
import type { Replayed } from "./replay";
import type { Trace } from "./traces";

/** The titles of the columns of wrong decisions. */
const MISTAKE_TITLES = {
  admittedTooMany: "admitted too many",
  deniedTooMany: "denied too many",
  chargedAlthoughDenied: "charged although denied",
  chargedTwice: "charged twice on retry",
} as const;
type Mistake = keyof typeof MISTAKE_TITLES;
const MISTAKES = Object.keys(MISTAKE_TITLES) as Mistake[];

const count = (value: number): string => value.toLocaleString("en");
const sumOf = (replayed: readonly Replayed[], kind: Exclude<keyof Verdict, "worstWaitMs">): number =>
  replayed.reduce((sum, { verdict }) => sum + verdict[kind], 0);
const mistakesOf = (replayed: readonly Replayed[]): number =>
  MISTAKES.reduce((sum, kind) => sum + sumOf(replayed, kind), 0);

/** Whether a peer is exact: no wrong decision and no wrong wait. */
export function isExact(replayed: readonly Replayed[]): boolean {
  return (
    sumOf(replayed, "admitted") > 0 &&
    mistakesOf(replayed) === 0 &&
    replayed.every(({ verdict }) => Math.round(verdict.worstWaitMs) === 0)
  );
}

function worstWait(replayed: readonly Replayed[]): string {
  if (!replayed.some(({ observed }) => observed.some(({ reportedWait }) => reportedWait))) return "tells none";
  const worst = replayed.reduce(
    (worst, { verdict }) => (Math.abs(verdict.worstWaitMs) > Math.abs(worst) ? verdict.worstWaitMs : worst),
    0,
  );
  const ms = Math.round(Math.abs(worst));
  return ms === 0 ? "0" : `${count(ms)} too ${worst < 0 ? "short" : "long"}`;
}

/** A table of wrong decisions in all traces together, a row for each peer. */
export function mainTable(peers: readonly Peer[], replayed: readonly Replayed[]): string {
  const rows = peers.map((peer) => {
    const own = replayed.filter((each) => each.peer === peer);
    return [
      peer.shortcomings ? `**${peer.name}**: ${peer.shortcomings}` : `**${peer.name}**`,
      count(sumOf(own, "decisions")),
      ...MISTAKES.map((kind) => count(sumOf(own, kind))),
      worstWait(own),
    ];
  });
  return table(["", "decisions", ...Object.values(MISTAKE_TITLES), "largest error of a wait, ms"], rows);
}

/** A table of wrong decisions in each trace. */
function traceTable(traces: readonly Trace[], peers: readonly Peer[], replayed: readonly Replayed[]): string {
  const rows = peers.map((peer) => {
    const cells = traces.map((trace) => {
      const own = replayed.filter((each) => each.peer === peer && each.trace === trace);
      return own.length > 0 ? `${count(mistakesOf(own))} of ${count(sumOf(own, "decisions"))}` : "–";
    });
    return [peer.name, ...cells];
  });
  return table(["wrong decisions", ...traces.map(({ name }) => name)], rows);
}

export function crashTable(crashRuns: readonly CrashRun[]): string {
  const rows = crashRuns.map(({ peer, killedPart, admittedBefore, verdict }) => [
    `**${peer.name}**, killed: ${killedPart}`,
    ...[admittedBefore, verdict.unknown, verdict.admittedTooMany, verdict.deniedTooMany].map(count),
  ]);
  return table(["", "admitted before", "unanswered", "admitted too many after", "denied too many"], rows);
}

/** A list of the limits that each peer is judged by. */
function limitList(peers: readonly Peer[]): string {
  const limitsOf = ({ limits }: Peer) =>
    limits
      .map(
        ({ layer, max, windowMs }) => `${max} in ${windowMs / 1_000} s ${layer === "caller" ? "a user" : "an address"}`,
      )
      .join(", ");
  return [...new Set(peers.map(limitsOf))]
    .map((limits) => {
      const names = peers.filter((peer) => limitsOf(peer) === limits).map(({ name }) => name);
      return `- ${limits}: ${names.join("; ")}`;
    })
    .join("\n");
}

export interface Run {
  readonly command: string;
  readonly versions: readonly string[];
  readonly traces: readonly Trace[];
  readonly peers: readonly Peer[];
  readonly replayed: readonly Replayed[];
  readonly crashRuns: readonly CrashRun[];
}

/** Writes docs/accuracy.md and its chart. */
export function writeReport({ command, versions, traces, peers, replayed, crashRuns }: Run): void {
  drawChart("accuracy", {
    title: "wrong decisions, of each 1,000",
    kind: "stack",
    categories: peers.map(({ name }) => name.replaceAll("`", "")),
    series: MISTAKES.map((kind) => ({
      name: MISTAKE_TITLES[kind],
      values: peers.map((peer) => {
        const own = replayed.filter((each) => each.peer === peer);
        return Math.round((1_000 * sumOf(own, kind)) / sumOf(own, "decisions"));
      }),
    })),
  });
  const packages = ["miniflare", "ioredis", "rate-limiter-flexible", "@upstash/ratelimit"];
  const date = new Date().toISOString().slice(0, 10);
  writeSection(
    "accuracy",
    [
      `${date}, \`${command}\`: ${describeMachine(packages, versions)}.`,
      "![Wrong decisions of each thousand, by kind, for each peer](images/accuracy.svg)",
      mainTable(peers, replayed),
      `Judged by the limits that each can hold:\n\n${limitList(peers)}`,
      traces.map(({ name, description }) => `- **${name}**: ${description}`).join("\n"),
      traceTable(traces, peers, replayed),
      "### After a SIGKILL",
      crashTable(crashRuns),
    ].join("\n\n"),
    { name: "accuracy.md", command: "npm run accuracy" },
  );
}
