import { drawChart } from "../../tools/chart";
import { table, writeSection } from "../../tools/document";
import { describeMachine } from "../machine";
import type { Hurt } from "./hurt";
import type { Verdict } from "./judge";
import type { Peer } from "./peers/peer";
import type { Replayed } from "./replay";
import type { Trace } from "./traces";

/** The kinds of wrong decisions, as their columns are called. */
const WRONGS = {
  admittedTooMany: "admitted too many",
  deniedTooMany: "denied too many",
  chargedAlthoughDenied: "charged although denied",
  chargedTwice: "charged twice on retry",
} as const;
type Kind = keyof typeof WRONGS;
const KINDS = Object.keys(WRONGS) as Kind[];

const count = (value: number): string => value.toLocaleString("en");
const sumOf = (replayed: readonly Replayed[], kind: Exclude<keyof Verdict, "worstWaitMs">): number =>
  replayed.reduce((sum, { verdict }) => sum + verdict[kind], 0);
const wrongsOf = (replayed: readonly Replayed[]): number => KINDS.reduce((sum, kind) => sum + sumOf(replayed, kind), 0);

/** What must be said of this service before it may be called exact. */
export function isExact(replayed: readonly Replayed[]): boolean {
  return (
    sumOf(replayed, "admitted") > 0 &&
    wrongsOf(replayed) === 0 &&
    replayed.every(({ verdict }) => Math.round(verdict.worstWaitMs) === 0)
  );
}

function worstWait(replayed: readonly Replayed[]): string {
  if (!replayed.some(({ observed }) => observed.some(({ told }) => told))) return "tells none";
  const worst = replayed.reduce(
    (worst, { verdict }) => (Math.abs(verdict.worstWaitMs) > Math.abs(worst) ? verdict.worstWaitMs : worst),
    0,
  );
  const ms = Math.round(Math.abs(worst));
  return ms === 0 ? "0" : `${count(ms)} too ${worst < 0 ? "short" : "long"}`;
}

/** A row for each peer: all traces together. */
export function mainTable(peers: readonly Peer[], replayed: readonly Replayed[]): string {
  const rows = peers.map((peer) => {
    const own = replayed.filter((each) => each.peer === peer);
    return [
      peer.cannot ? `**${peer.name}**: ${peer.cannot}` : `**${peer.name}**`,
      count(sumOf(own, "decisions")),
      ...KINDS.map((kind) => count(sumOf(own, kind))),
      worstWait(own),
    ];
  });
  return table(["", "decisions", ...Object.values(WRONGS), "worst wait told wrongly by, ms"], rows);
}

/** Wrong decisions of each trace. */
function traceTable(traces: readonly Trace[], peers: readonly Peer[], replayed: readonly Replayed[]): string {
  const rows = peers.map((peer) => {
    const cells = traces.map((trace) => {
      const own = replayed.filter((each) => each.peer === peer && each.trace === trace);
      return own.length > 0 ? `${count(wrongsOf(own))} of ${count(sumOf(own, "decisions"))}` : "–";
    });
    return [peer.name, ...cells];
  });
  return table(["wrong decisions", ...traces.map(({ name }) => name)], rows);
}

export function hurtTable(hurt: readonly Hurt[]): string {
  const rows = hurt.map(({ peer, killed, admittedBefore, verdict }) => [
    `**${peer.name}**, killed: ${killed}`,
    ...[admittedBefore, verdict.unknown, verdict.admittedTooMany, verdict.deniedTooMany].map(count),
  ]);
  return table(["", "admitted before", "unanswered", "admitted too many after", "denied too many"], rows);
}

/** Who is judged by which limits. */
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
  readonly hurt: readonly Hurt[];
}

/** Writes docs/accuracy.md and its chart. */
export function writeReport({ command, versions, traces, peers, replayed, hurt }: Run): void {
  drawChart("accuracy", {
    title: "wrong decisions, of each 1,000",
    kind: "stack",
    categories: peers.map(({ name }) => name.replaceAll("`", "")),
    series: KINDS.map((kind) => ({
      name: WRONGS[kind],
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
      traces.map(({ name, says }) => `- **${name}**: ${says}`).join("\n"),
      traceTable(traces, peers, replayed),
      "### When it is hurt",
      hurtTable(hurt),
    ].join("\n\n"),
    { name: "accuracy.md", command: "npm run accuracy" },
  );
}
