import autocannon from "autocannon";

export interface Load {
  readonly url: string;
  readonly connections: number;
  /** Stop after so many requests, or after so many seconds. */
  readonly amount?: number;
  readonly seconds?: number;
  /** The body of the next request. */
  readonly body: () => unknown;
}

export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly byStatus: Readonly<Record<string, number>>;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export const TOKEN = "bench-token";

/** Closed-loop load: every connection sends its next request when its last one was answered. */
export async function load({ url, connections, amount, seconds, body }: Load): Promise<LoadResult> {
  const result = await autocannon({
    url,
    connections,
    ...(amount === undefined ? { duration: seconds ?? 5 } : { amount }),
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
    requests: [{ setupRequest: (request) => ({ ...request, body: JSON.stringify(body()) }) }],
  });
  if (result.errors > 0) throw new Error(`${result.errors} requests to ${url} failed`);
  const byStatus: Record<string, number> = {};
  for (const [status, { count }] of Object.entries(result.statusCodeStats ?? {})) byStatus[status] = count ?? 0;
  return {
    requestsPerSecond: result.requests.average,
    byStatus,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
  };
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
