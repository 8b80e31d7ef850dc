import { setTimeout as sleep } from "node:timers/promises";
import { judge, type Observed, type Verdict } from "./judge";
import type { Peer } from "./peers/peer";
import type { Trace, TraceName, TraceRequest } from "./traces";

/** Nobody waits longer for an answer; what comes later is lost. */
const PATIENCE_MS = 5_000;

/** What came of a trace with a peer. */
export interface Replayed {
  readonly peer: Peer;
  readonly trace: Trace;
  readonly observed: readonly Observed[];
  readonly verdict: Verdict;
}

/** Sends a trace to all peers at once, in real time. */
export async function replay(trace: Trace, peers: readonly Peer[], startMs: number): Promise<Replayed[]> {
  const able = peers.filter(({ leavesOut = [] }) => !leavesOut.includes(trace.name as TraceName));
  const observed = able.map((): Observed[] => []);
  await Promise.all(
    trace.requests.map(async (request) => {
      await sleep(startMs + request.atMs - Date.now());
      await Promise.all(able.map(async (peer, i) => observed[i]?.push(await observe(peer, request))));
    }),
  );
  return able.map((peer, i) => {
    const own = observed[i] ?? [];
    return { peer, trace, observed: own, verdict: judge(own, peer.limits, peer.windowsSeen) };
  });
}

/** The whole millisecond before it was sent and the one after its answer came: it was decided between them. */
async function observe(peer: Peer, request: TraceRequest): Promise<Observed> {
  const sentMs = Date.now();
  const patience = new AbortController();
  const late = sleep(PATIENCE_MS, "late" as const, { signal: patience.signal });
  late.catch(() => {});
  try {
    const answer = await Promise.race([peer.decide(request), late]);
    if (answer === "late") return { request, sentMs, receivedMs: Number.POSITIVE_INFINITY, outcome: "unknown" };
    const outcome = answer.allowed ? "allowed" : "denied";
    return { request, sentMs, receivedMs: Date.now() + 1, outcome, told: answer.told };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    return { request, sentMs, receivedMs: Date.now() + 1, outcome: "unknown", failure };
  } finally {
    patience.abort();
  }
}
