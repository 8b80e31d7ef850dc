import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What is written to a socket, part by part, and how it ends. */
export interface Sent {
  readonly parts: readonly Buffer[];
  /** `end` sends no more and reads all answers, `drop` disconnects, `stall` sends no more and stays connected. */
  readonly ending: "end" | "drop" | "stall";
}

export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

export interface Exchange {
  readonly answers: readonly Answer[];
  /** Bytes after the last complete answer. */
  readonly rest: string;
  /** The server neither answered nor closed in time. */
  readonly isHung: boolean;
  /** All that the server sent was read. False after a reset, and when this side disconnected. */
  readonly isWhole: boolean;
}

const PAUSE_MS = 2;

/** Sends bytes over a new connection, and reads answers until the server closes it. */
export function exchange({ hostname, port }: URL, { parts, ending }: Sent, longestMs: number): Promise<Exchange> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
    const received: Buffer[] = [];
    let isHung = false;
    let isWhole = ending !== "drop";
    const timer = setTimeout(() => {
      isHung = true;
      socket.destroy();
    }, longestMs);
    socket.on("data", (data) => received.push(data));
    // A server may refuse a request while it is being sent, and close.
    socket.on("error", () => (isWhole = false));
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      clearTimeout(timer);
      const { answers, rest } = answersIn(Buffer.concat(received).toString("latin1"));
      resolve({ answers, rest, isHung, isWhole });
    });
    const send = async () => {
      for (const [i, part] of parts.entries()) {
        if (i > 0) await sleep(PAUSE_MS);
        if (socket.writable) socket.write(part);
      }
      if (ending === "end" && socket.writable) socket.end();
      if (ending === "drop") await sleep(PAUSE_MS).then(() => socket.destroy());
    };
    socket.once("connect", send);
  });
}

/** The answers in a stream of HTTP/1.1. A body is as long as Content-Length says, and empty without it. */
function answersIn(text: string): { answers: Answer[]; rest: string } {
  const answers: Answer[] = [];
  let at = 0;
  while (at < text.length) {
    const headEnd = text.indexOf("\r\n\r\n", at);
    if (headEnd < 0) break;
    const [statusLine = "", ...lines] = text.slice(at, headEnd).split("\r\n");
    const status = Number(/^HTTP\/1\.1 (\d{3})( |$)/.exec(statusLine)?.[1]);
    if (Number.isNaN(status)) break;
    const headers = new Map(lines.map((line) => [nameOf(line), line.slice(line.indexOf(":") + 1).trim()]));
    const end = headEnd + 4 + Number(headers.get("content-length") ?? 0);
    if (end > text.length) break;
    const body = Buffer.from(text.slice(headEnd + 4, end), "latin1").toString("utf8");
    if (status >= 200) answers.push({ status, headers, body });
    at = end;
  }
  return { answers, rest: text.slice(at) };
}

function nameOf(line: string): string {
  return line.slice(0, Math.max(0, line.indexOf(":"))).toLowerCase();
}
