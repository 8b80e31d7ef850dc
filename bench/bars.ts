import { format, table } from "../tools/document";
import type { Billed } from "./billed";
import type { FloorName } from "./floors";
import type { LatencyAtLoad } from "./latency";
import type { Measured } from "./measure";
import { FLEXIBLE, LUA_PEER, SERVICE, SLOWAPI, UPSTASH } from "./names";
import type { WorkloadName } from "./workloads";

/** Something that is asked of the service, and how it stands. */
export interface Bar {
  readonly what: string;
  readonly measured: number;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** One that could not be measured is not met. */
export function isMet({ measured, atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY }: Bar) {
  return measured >= atLeast && measured <= atMost;
}

/** The bars of the main run: ratios of medians measured side by side. */
export function barsOf(measured: readonly Measured[], latencies: readonly LatencyAtLoad[], billed: readonly Billed[]) {
  const find = (name: string, workload: WorkloadName = "admitted") =>
    measured.find((each) => each.name === name && each.workload === workload)?.decisionsPerSecond ?? Number.NaN;
  const floor = (name: FloorName) => find(name);
  const service = (workload: WorkloadName) => find(SERVICE, workload);
  const p99 = (name: string) => latencies.find((each) => each.name === name)?.p99Ms ?? Number.NaN;

  const bars: Bar[] = [
    { what: `admitted, beside ${LUA_PEER}`, measured: service("admitted") / find(LUA_PEER), atLeast: 0.6 },
    { what: "the same in batches of 32", measured: service("batch") / find(LUA_PEER, "batch"), atLeast: 1 },
    { what: "admitted, beside rate-limiter-flexible", measured: service("admitted") / find(FLEXIBLE), atLeast: 0.6 },
    { what: "admitted, beside @upstash/ratelimit", measured: service("admitted") / find(UPSTASH), atLeast: 0.6 },
    { what: "admitted, beside FastAPI with slowapi", measured: service("admitted") / find(SLOWAPI), atLeast: 5 },
    { what: "admitted, beside a durable row", measured: service("admitted") / floor("row"), atLeast: 0.8 },
    { what: "flood, beside a constant answer", measured: service("flood") / floor("constant"), atLeast: 0.7 },
    { what: "check, beside an empty object call", measured: service("check") / floor("object"), atLeast: 0.8 },
    { what: "p99 at 60% of the Lua peer's most, beside its own", measured: p99(SERVICE) / p99(LUA_PEER), atMost: 1 },
  ];
  for (const { placement, rowsPerCounter, floodCallsPerSecond } of billed)
    bars.push(
      { what: `rows a counter and admitted decision, ${placement}`, measured: rowsPerCounter, atMost: 1 },
      { what: `calls a second of an object in a flood, ${placement}`, measured: floodCallsPerSecond, atMost: 1 },
    );
  return bars;
}

/** The bars as a table. */
export function barTable(bars: readonly Bar[]): string {
  const rows = bars.map((bar) => [bar.what, format(bar.measured), asked(bar), isMet(bar) ? "yes" : "**no**"]);
  return table(["", "measured", "asked", "met"], rows);
}

/** The bars as lines of a terminal. */
export function barLines(bars: readonly Bar[]): string {
  return bars
    .map((bar) => {
      const verdict = isMet(bar) ? "met" : Number.isNaN(bar.measured) ? "NOT MEASURED" : "NOT MET";
      return `${bar.what.padEnd(62)} ${format(bar.measured).padStart(9)}   asked ${asked(bar).padEnd(14)} ${verdict}`;
    })
    .join("\n");
}

function asked({ atLeast, atMost }: Bar): string {
  return atLeast === undefined ? `at most ${format(atMost ?? Number.NaN)}` : `at least ${format(atLeast)}`;
}
