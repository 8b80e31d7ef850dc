import { connect, type Socket } from "node:net";

export interface Load {
  readonly url: string;
  readonly connections: number;
  /** Stop after so many requests, or after so many seconds. */
  readonly amount?: number;
  readonly seconds?: number;
  /** What is sent, one after the other and from the start again; or what makes it, where that is too much to keep. */
  readonly bodies: readonly unknown[] | ((i: number) => unknown);
  /**
   * Send so many a second, evenly, whether earlier ones were answered or not: a latency then counts from the instant at
   * which its request was due. When left out, a connection sends its next request when its last one was answered.
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

/**
 * Posts JSON over connections that are kept. A client of its own, on bare sockets with requests made beforehand: it
 * shares two cores with what it measures, and takes half of what autocannon or undici take for a request.
 */
export async function load({ url, connections, amount, seconds = 5, bodies, perSecond }: Load): Promise<LoadResult> {
  const { hostname, port, pathname } = new URL(url);
  const request = (body: unknown) => requestOf(pathname, hostname, JSON.stringify(body));
  const made = typeof bodies === "function" ? [] : bodies.map(request);
  const next = (i: number) => (typeof bodies === "function" ? request(bodies(i)) : (made[i % made.length] as Buffer));
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(hostname, Number(port))));
  const startMs = performance.now();
  const endMs = amount === undefined ? startMs + seconds * 1_000 : Number.POSITIVE_INFINITY;
  const most = amount ?? Number.POSITIVE_INFINITY;
  const latenciesMs: number[] = [];
  const byStatus: Record<string, number> = {};
  const idle: ((dueMs: number) => void)[] = [];
  let sent = 0;

  const isOver = () => sent >= most || performance.now() >= endMs;
  const lastDueMs = () => startMs + (sent * 1_000) / (perSecond ?? 1);
  const sendDue = () => {
    while (idle.length > 0 && lastDueMs() <= performance.now()) idle.pop()?.(lastDueMs());
  };
  const pace = perSecond === undefined ? undefined : setInterval(sendDue, 1);

  const drive = (socket: Socket) =>
    new Promise<void>((resolve, reject) => {
      let dueMs = 0;
      let received = "";
      const send = (atMs: number) => {
        if (isOver()) return resolve();
        dueMs = atMs;
        socket.write(next(sent++));
      };
      const sendNext = () => {
        if (perSecond === undefined) return send(performance.now());
        if (isOver()) return resolve();
        idle.push(send);
        sendDue();
      };
      socket.on("data", (data) => {
        received += data.toString("latin1");
        if (!isWhole(received)) return;
        const status = received.slice(9, 12);
        byStatus[status] = (byStatus[status] ?? 0) + 1;
        latenciesMs.push(performance.now() - dueMs);
        received = "";
        sendNext();
      });
      socket.once("error", reject).once("close", () => reject(new Error(`${url} closed a connection`)));
      sendNext();
      // One that is idle when the time is up has nobody to wake it.
      if (perSecond !== undefined) setTimeout(() => idle.includes(send) && resolve(), endMs - performance.now() + 1);
    });
  await Promise.all(sockets.map(drive)).finally(() => {
    clearInterval(pace);
    for (const socket of sockets) socket.removeAllListeners("close").destroy();
  });

  const tookSeconds = (performance.now() - startMs) / 1_000;
  const sorted = Float64Array.from(latenciesMs).sort();
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return { requestsPerSecond: sorted.length / tookSeconds, byStatus, p50Ms: at(0.5), p99Ms: at(0.99) };
}

function requestOf(path: string, host: string, body: string): Buffer {
  const headers = [
    `POST ${path} HTTP/1.1`,
    `Host: ${host}`,
    `Authorization: Bearer ${TOKEN}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  return Buffer.from(`${headers.join("\r\n")}\r\n\r\n${body}`);
}

function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true }, () => resolve(socket.removeAllListeners("error")));
    socket.once("error", reject);
  });
}

/** Whether an answer has arrived in full; all that is measured here states its length. */
function isWhole(received: string): boolean {
  const headEnd = received.indexOf("\r\n\r\n");
  if (headEnd < 0) return false;
  const length = /\ncontent-length: *(\d+)/i.exec(received.slice(0, headEnd))?.[1];
  if (length === undefined) throw new Error(`An answer without Content-Length: ${received.slice(0, headEnd)}`);
  return received.length >= headEnd + 4 + Number(length);
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
