import { EventEmitter, once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { onTestFinished } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import type { Behaviour } from "./behaviour";

/** A request in a message. */
export interface Item {
  readonly op: string;
  readonly idempotency_key?: string;
  readonly attempt?: number;
  readonly subject: { readonly user: string };
  readonly [field: string]: unknown;
}

export interface Message {
  readonly id: number;
  readonly requests: readonly Item[];
}

/** Opens a session with whoever asks, and hands on its messages. Answers pings. */
export function serveSessions(server: Server, onMessage: (socket: WebSocket, message: Message) => void): void {
  const sessions = newSessions();
  server.on("upgrade", (request, stream, head) =>
    sessions.handleUpgrade(request, stream, head, (socket) => {
      socket.setMaxListeners(0).on("error", () => {});
      socket.on("message", (data) => {
        if (String(data) === "ping") socket.send("pong");
        else onMessage(socket, JSON.parse(String(data)));
      });
    }),
  );
}

function newSessions(): WebSocketServer {
  const handleProtocols = (offered: Set<string>) => offered.has("exact-limiter.v1") && "exact-limiter.v1";
  const sessions = new WebSocketServer({ noServer: true, perMessageDeflate: false, handleProtocols });
  onTestFinished(() => {
    for (const socket of sessions.clients) socket.terminate();
  });
  return sessions;
}

/** Treats each request of a message like a request over HTTP, and answers the message once all are answered. */
export async function answerLikeHttp(socket: WebSocket, { id, requests }: Message, treat: Behaviour): Promise<void> {
  const results = await Promise.all(requests.map((item) => resultOf(socket, item, treat)));
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ id, results }));
}

interface Result {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: unknown;
}

async function resultOf(
  socket: WebSocket,
  { op, idempotency_key, attempt, ...body }: Item,
  treat: Behaviour,
): Promise<Result> {
  const response = new ItemResponse();
  const headers = {
    ...(idempotency_key !== undefined && { "idempotency-key": `"${idempotency_key}"` }),
    ...(attempt !== undefined && { "idempotency-attempt": String(attempt) }),
  };
  const request = { url: `/v1/${op}`, headers, socket: { resetAndDestroy: () => socket.terminate() } };
  const ended = once(response, "end");
  socket.once("close", () => response.emit("close"));
  treat(response as unknown as ServerResponse, request as unknown as IncomingMessage, body);
  await ended;
  setImmediate(() => response.emit("close"));
  return { status: response.status, headers: response.headers, body: response.body };
}

/** The part of a response that the behaviours of the tests use. */
class ItemResponse extends EventEmitter {
  status = 200;
  headers: Record<string, string> = {};
  body: unknown;

  writeHead(status: number, headers: Record<string, string> = {}): this {
    this.status = status;
    this.headers = headers;
    return this;
  }

  /** A result can't be sent in parts: without an end it is never sent. */
  write(): void {}

  end(text = ""): this {
    try {
      this.body = JSON.parse(text);
    } catch {
      this.body = text;
    }
    this.emit("end");
    return this;
  }
}

interface SessionServerOptions {
  /** Called with each message. Answers nothing by default. */
  readonly onMessage?: (socket: WebSocket, message: Message, nth: number) => void;
  /** Decides the handshake: true to open a session. */
  readonly onHandshake?: (stream: Duplex, nth: number) => boolean;
  /** Called with each request over HTTP. */
  readonly onRequest?: Behaviour;
  readonly isPonging?: () => boolean;
  readonly port?: number;
}

/** A server whose sessions behave as the test says, message by message. It ends with the test. */
export async function startSessionServer(options: SessionServerOptions = {}) {
  const { onMessage, onHandshake = () => true, onRequest, isPonging = () => true, port = 0 } = options;
  const handshakes: IncomingMessage[] = [];
  const sockets: WebSocket[] = [];
  const texts: string[] = [];
  const messages: Message[] = [];
  const paths: string[] = [];
  const sessions = newSessions();
  const server = createServer(async (request, response) => {
    paths.push(request.url ?? "");
    let text = "";
    for await (const chunk of request) text += chunk;
    if (onRequest) onRequest(response, request, text === "" ? undefined : JSON.parse(text));
    else response.writeHead(500).end();
  });
  server.on("upgrade", (request, stream, head) => {
    stream.on("error", () => {});
    handshakes.push(request);
    if (!onHandshake(stream, handshakes.length)) return;
    sessions.handleUpgrade(request, stream, head, (socket) => {
      sockets.push(socket);
      socket.setMaxListeners(0).on("error", () => {});
      socket.on("message", (data) => {
        texts.push(String(data));
        if (String(data) !== "ping") {
          const message = JSON.parse(String(data)) as Message;
          messages.push(message);
          onMessage?.(socket, message, messages.length);
        } else if (isPonging()) socket.send("pong");
      });
    });
  });
  await once(server.listen(port, "127.0.0.1"), "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, handshakes, sockets, texts, messages, paths };
}

/** Refuses a handshake with a status. */
export function refuse(stream: Duplex, status: number): false {
  stream.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  return false;
}
