import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What is written to a socket, bit by bit, and how it ends. */
export interface Sent {
  readonly parts: readonly Buffer[];
  /** `end`: nothing more is sent, and all answers are read. `drop`: gone in the middle. `stall`: silent, and there. */
  readonly ending: "end" | "drop" | "stall";
}

export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

export interface Exchange {
  readonly answers: readonly Answer[];
  /** What came after the last whole answer. */
  readonly rest: string;
  readonly isHung: boolean;
  /** Whether all that was answered has been read: not after a reset, or when we went away ourselves. */
  readonly isWhole: boolean;
}

const PAUSE_MS = 2;

/** Sends bytes over a connection of their own, and reads what is answered until the server closes it. */
export function exchange({ hostname, port }: URL, { parts, ending }: Sent, boundMs: number): Promise<Exchange> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
    const received: Buffer[] = [];
    let isHung = false;
    let isWhole = ending !== "drop";
    const timer = setTimeout(() => {
      isHung = true;
      socket.destroy();
    }, boundMs);
    socket.on("data", (data) => received.push(data));
    // A server that has refused what is still being sent may close: that is an end like any other.
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

/** Answers one after the other, as HTTP/1.1 has them; a body is as long as it says, none when it says nothing. */
function answersIn(text: string): { answers: Answer[]; rest: string } {
  const answers: Answer[] = [];
  let at = 0;
  for (;;) {
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
