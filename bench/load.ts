import { setTimeout as sleep } from "node:timers/promises";
import { Connection } from "./connection";

export interface Load {
  readonly url: string;
  readonly connections: number;
  /** Stops after so many requests, or else after so many seconds. */
  readonly amount?: number;
  readonly seconds?: number;
  /** The bodies, sent in turn and again from the start; or a function that makes them, if they are too many to keep. */
  readonly bodies: readonly unknown[] | ((i: number) => unknown);
  /**
   * Sends so many requests a second, evenly, whether earlier ones were answered or not. A latency then counts from the
   * instant at which the request was due. By default a connection sends its next request once the last was answered.
   */
  readonly perSecond?: number;
}

export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly byStatus: Readonly<Record<string, number>>;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export const TOKEN = "bench-token";

/** The run fails if the server closes connections instead of answering more than this share of the requests. */
const MOST_LOST = 0.001;

/**
 * Posts JSON over keep-alive connections. A client on raw sockets with prepared requests: it shares two cores with the
 * server that it measures, and takes half the time of autocannon or undici for a request.
 */
export async function load({ url, connections, amount, seconds = 5, bodies, perSecond }: Load): Promise<LoadResult> {
  const target = new URL(url);
  const request = (body: unknown) => requestOf(target, JSON.stringify(body));
  const prepared = typeof bodies === "function" ? [] : bodies.map(request);
  const next = (i: number) =>
    typeof bodies === "function" ? request(bodies(i)) : (prepared[i % prepared.length] as Buffer);
  const opened = await Promise.all(Array.from({ length: connections }, () => Connection.open(target)));
  const latenciesMs: number[] = [];
  const byStatus: Record<string, number> = {};
  const startMs = performance.now();
  const endMs = amount === undefined ? startMs + seconds * 1_000 : Number.POSITIVE_INFINITY;
  const most = amount ?? Number.POSITIVE_INFINITY;
  let sent = 0;

  const drive = async (connection: Connection) => {
    while (sent < most) {
      const i = sent++;
      const dueMs = perSecond === undefined ? performance.now() : startMs + (i * 1_000) / perSecond;
      if (dueMs >= endMs) return;
      // A late timer is not the server's fault, so the latency starts now. A wait for a free connection is.
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      const fromMs = waitMs > 0 ? performance.now() : dueMs;
      const status = await connection.send(next(i));
      latenciesMs.push(performance.now() - fromMs);
      byStatus[status] = (byStatus[status] ?? 0) + 1;
      if (performance.now() >= endMs) return;
    }
  };
  await Promise.all(opened.map(drive)).finally(() => {
    for (const connection of opened) connection.close();
  });

  const tookSeconds = (performance.now() - startMs) / 1_000;
  const lost = opened.reduce((sum, connection) => sum + connection.lost, 0);
  if (lost > 0) console.error(`\n${url} closed ${lost} connections. Their requests were sent again.`);
  if (lost > latenciesMs.length * MOST_LOST + 1)
    throw new Error(`${url} closed ${lost} connections instead of answering.`);
  const sorted = Float64Array.from(latenciesMs).sort();
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { requestsPerSecond: sorted.length / tookSeconds, byStatus, p50Ms: at(0.5), p99Ms: at(0.99) };
}

function requestOf({ pathname, host }: URL, body: string): Buffer {
  const headers = [
    `POST ${pathname} HTTP/1.1`,
    `Host: ${host}`,
    `Authorization: Bearer ${TOKEN}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  return Buffer.from(`${headers.join("\r\n")}\r\n\r\n${body}`);
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
