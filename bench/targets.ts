import { format, table } from "../tools/document";
import type { BilledUsage } from "./billed";
import type { FloorName } from "./floors";
import type { LatencyAtLoad } from "./latency";
import type { Measurement } from "./measure";
import { FLEXIBLE, LUA_PEER, SERVICE, SLOWAPI, UPSTASH } from "./names";
import type { WorkloadName } from "./workloads";

/** A number that the service should reach, and what was measured. */
export interface Target {
  readonly name: string;
  readonly measured: number;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** Whether the target is met. A target that was not measured (NaN) is not met. */
export function isMet({ measured, atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY }: Target) {
  return measured >= atLeast && measured <= atMost;
}

/** The targets of the main run: ratios of medians that were measured side by side. */
export function targetsOf(
  measured: readonly Measurement[],
  latencies: readonly LatencyAtLoad[],
  billed: readonly BilledUsage[],
) {
  const find = (name: string, workload: WorkloadName = "admitted") =>
    measured.find((each) => each.name === name && each.workload === workload)?.decisionsPerSecond ?? Number.NaN;
  const floor = (name: FloorName) => find(name);
  const service = (workload: WorkloadName) => find(SERVICE, workload);
  const p99 = (name: string) => latencies.find((each) => each.name === name)?.p99Ms ?? Number.NaN;

  const targets: Target[] = [
    { name: `admitted, beside ${LUA_PEER}`, measured: service("admitted") / find(LUA_PEER), atLeast: 0.6 },
    { name: "the same in batches of 32", measured: service("batch") / find(LUA_PEER, "batch"), atLeast: 1 },
    { name: "admitted, beside rate-limiter-flexible", measured: service("admitted") / find(FLEXIBLE), atLeast: 0.6 },
    { name: "admitted, beside @upstash/ratelimit", measured: service("admitted") / find(UPSTASH), atLeast: 0.6 },
    { name: "admitted, beside FastAPI with slowapi", measured: service("admitted") / find(SLOWAPI), atLeast: 5 },
    { name: "admitted, beside a durable row", measured: service("admitted") / floor("row"), atLeast: 0.8 },
    { name: "flood, beside a constant answer", measured: service("flood") / floor("constant"), atLeast: 0.7 },
    { name: "check, beside an empty object call", measured: service("check") / floor("object"), atLeast: 0.8 },
    { name: "p99 at 60% of the Lua peer's most, beside its own", measured: p99(SERVICE) / p99(LUA_PEER), atMost: 1 },
  ];
  for (const { placement, rowsPerCounter, floodCallsPerSecond } of billed)
    targets.push(
      { name: `rows a counter and admitted decision, ${placement}`, measured: rowsPerCounter, atMost: 1 },
      { name: `calls a second of an object in a flood, ${placement}`, measured: floodCallsPerSecond, atMost: 1 },
    );
  return targets;
}

/** The targets as a table. */
export function targetTable(targets: readonly Target[]): string {
  const rows = targets.map((target) => [
    target.name,
    format(target.measured),
    requirementOf(target),
    isMet(target) ? "yes" : "**no**",
  ]);
  return table(["", "measured", "target", "met"], rows);
}

/** The targets as lines for a terminal. */
export function targetLines(targets: readonly Target[]): string {
  return targets
    .map((target) => {
      const verdict = isMet(target) ? "met" : Number.isNaN(target.measured) ? "NOT MEASURED" : "NOT MET";
      return `${target.name.padEnd(62)} ${format(target.measured).padStart(9)}   target ${requirementOf(target).padEnd(14)} ${verdict}`;
    })
    .join("\n");
}

function requirementOf({ atLeast, atMost }: Target): string {
  return atLeast === undefined ? `at most ${format(atMost ?? Number.NaN)}` : `at least ${format(atLeast)}`;
}
