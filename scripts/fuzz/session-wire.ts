import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CLOSE, closeFrame, framesIn, TEXT } from "./frames";

/** What is sent over a session, and when it is over. */
export interface SentSession {
  readonly handshake: Buffer;
  readonly parts: readonly Buffer[];
  /** So many answers come, and then the client closes. Undefined: it sends no more, and the server closes. */
  readonly answers: number | undefined;
}

export interface SessionExchange {
  /** The head of the answer to the handshake. */
  readonly head: string;
  /** The messages of the server. */
  readonly texts: readonly string[];
  /** The code of the server's close. */
  readonly closeCode: number | undefined;
  readonly isHung: boolean;
  /** False after a reset, which may lose what the server sent. */
  readonly isWhole: boolean;
}

const NORMAL = 1_000;
/** A close without a code: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1 */
const NO_CODE = 1_005;
const PAUSE_MS = 2;

/** Opens a session over a connection of its own, sends bytes over it, and reads until the server closes it. */
export function exchangeOverSession(
  { hostname, port }: URL,
  { handshake, parts, answers }: SentSession,
  longestMs: number,
): Promise<SessionExchange> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
    const texts: string[] = [];
    let received: Buffer = Buffer.alloc(0);
    let head = "";
    let closeCode: number | undefined;
    let isHung = false;
    let isWhole = true;
    let isClosing = false;
    const timer = setTimeout(() => {
      isHung = true;
      socket.destroy();
    }, longestMs);
    const write = (bytes: Buffer) => socket.writable && socket.write(bytes);
    const sendParts = async () => {
      for (const [i, part] of parts.entries()) {
        if (i > 0) await sleep(PAUSE_MS);
        write(part);
      }
      if (answers === undefined) socket.end();
      else closeWhenAnswered();
    };
    const closeWhenAnswered = () => {
      if (isClosing || answers === undefined || texts.length < answers) return;
      isClosing = true;
      write(closeFrame(NORMAL));
    };
    const readHead = () => {
      const headEnd = received.indexOf("\r\n\r\n");
      if (headEnd < 0) return;
      head = received.subarray(0, headEnd).toString("latin1");
      received = received.subarray(headEnd + 4);
      if (statusOf(head) === 101) void sendParts();
      else socket.end();
    };
    const readFrames = () => {
      const { frames, rest } = framesIn(received);
      received = rest;
      for (const { opcode, payload } of frames) {
        if (opcode === TEXT) texts.push(payload.toString("utf8"));
        if (opcode !== CLOSE) continue;
        closeCode = payload.length < 2 ? NO_CODE : payload.readUInt16BE(0);
        // The runtime keeps the connection of a client that broke the protocol until its memory is collected.
        socket.destroy();
      }
      closeWhenAnswered();
    };
    socket.on("data", (data) => {
      received = Buffer.concat([received, data]);
      if (head === "") readHead();
      if (statusOf(head) === 101) readFrames();
    });
    socket.on("error", () => (isWhole = false));
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      clearTimeout(timer);
      resolve({ head, texts, closeCode, isHung, isWhole });
    });
    socket.once("connect", () => write(handshake));
  });
}

export function statusOf(head: string): number | undefined {
  const status = /^HTTP\/1\.1 (\d{3})( |$)/m.exec(head)?.[1];
  return status === undefined ? undefined : Number(status);
}
