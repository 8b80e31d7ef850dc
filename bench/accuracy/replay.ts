import { setTimeout as sleep } from "node:timers/promises";
import { judge, type Observed, type Verdict } from "./judge";
import type { Peer } from "./peers/peer";
import type { Trace, TraceName, TraceRequest } from "./traces";

/** Longest wait for an answer. A later answer is lost. */
const LONGEST_WAIT_MS = 5_000;

/** A trace, as one peer answered it. */
export interface Replayed {
  readonly peer: Peer;
  readonly trace: Trace;
  readonly observed: readonly Observed[];
  readonly verdict: Verdict;
}

/** Sends a trace to all peers at once, in real time. */
export async function replay(trace: Trace, peers: readonly Peer[], startMs: number): Promise<Replayed[]> {
  const capable = peers.filter(({ skippedTraces = [] }) => !skippedTraces.includes(trace.name as TraceName));
  const observed = capable.map((): Observed[] => []);
  await Promise.all(
    trace.requests.map(async (request) => {
      await sleep(startMs + request.atMs - Date.now());
      await Promise.all(capable.map(async (peer, i) => observed[i]?.push(await observe(peer, request))));
    }),
  );
  return capable.map((peer, i) => {
    const own = observed[i] ?? [];
    return { peer, trace, observed: own, verdict: judge(own, peer.limits, peer.windowsSeen) };
  });
}

/** Sends a request. `sentMs` and `receivedMs` are rounded outwards, so that the decision lies between them. */
async function observe(peer: Peer, request: TraceRequest): Promise<Observed> {
  const sentMs = Date.now();
  const timer = new AbortController();
  const late = sleep(LONGEST_WAIT_MS, "late" as const, { signal: timer.signal });
  late.catch(() => {});
  try {
    const answer = await Promise.race([peer.decide(request), late]);
    if (answer === "late") return { request, sentMs, receivedMs: Number.POSITIVE_INFINITY, outcome: "unknown" };
    const outcome = answer.allowed ? "allowed" : "denied";
    return { request, sentMs, receivedMs: Date.now() + 1, outcome, reportedWait: answer.reportedWait };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return { request, sentMs, receivedMs: Date.now() + 1, outcome: "unknown", failure };
  } finally {
    timer.abort();
  }
}
