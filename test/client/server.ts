import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { InvalidField } from "../../src/client/index.js";
import type { Behaviour } from "./behaviour";
import { answerLikeHttp, serveSessions } from "./session-server";

/** A request that has arrived, with its body. */
export interface Received {
  readonly path: string;
  readonly key: string | undefined;
  readonly attempt: string | undefined;
  readonly body: unknown;
}

export type { Behaviour };

/**
 * A server that treats its first request by the first behaviour, the second by the second, and so on, and all further
 * requests by the last. It ends with the test.
 */
export async function startServer(...behaviours: [Behaviour, ...Behaviour[]]) {
  return startServerAt(0, ...behaviours);
}

/** The server of `startServer`, on a given port. Each request in a session's message is treated like one of its own. */
export async function startServerAt(port: number, ...behaviours: [Behaviour, ...Behaviour[]]) {
  const received: Received[] = [];
  let arrived = 0;
  const sockets = new Set<unknown>();
  const treat: Behaviour = (response, request, body) => {
    const header = (name: string) => request.headers[name] as string | undefined;
    received.push({
      path: request.url ?? "",
      key: header("idempotency-key"),
      attempt: header("idempotency-attempt"),
      body,
    });
    behaviours[Math.min(++arrived, behaviours.length) - 1]?.(response, request, body);
  };
  const server = createServer(async (request, response) => {
    sockets.add(request.socket);
    let text = "";
    for await (const chunk of request) text += chunk;
    treat(response, request, text === "" ? undefined : JSON.parse(text));
  });
  serveSessions(server, (socket, message) => answerLikeHttp(socket, message, treat));
  await once(server.listen(port, "127.0.0.1"), "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received, sockets };
}

/** A URL at which nothing listens for now. */
export async function closedPort(): Promise<string> {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  await once(server.close(), "close");
  return `http://127.0.0.1:${port}`;
}

/** Answers with a status and a body: a string as it is, anything else as JSON. */
export function answers(status: number, body: unknown, headers: Record<string, string> = {}): Behaviour {
  return (response) => {
    response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

export function problem(status: number, detail: string, errors?: readonly InvalidField[]): Behaviour {
  return answers(status, { type: "about:blank", title: "", status, detail, errors });
}

export const hangs: Behaviour = () => {};

/** Closes the connection without an answer, when the work may have been done. */
export const resets: Behaviour = (_, { socket }) => void socket.resetAndDestroy();

/** Begins an answer, and adds a byte now and then, for ever. */
export const trickles: Behaviour = (response) => {
  response.writeHead(200, { "Content-Type": "application/json" }).write("{");
  const timer = setInterval(() => response.write(" "), 20);
  response.on("close", () => clearInterval(timer));
};

export const ADMITTED = {
  allowed: true,
  id: "k",
  policy: "chat",
  cost: 1,
  replayed: false,
  degraded: false,
  retry_after_seconds: null,
  limits: [{ layer: "caller", key: "user:u", limit: 5, window_seconds: 60, used: 1, remaining: 4, reset_seconds: 60 }],
};

/** Admits, settles and releases, at the cost that was asked for. */
export const serves: Behaviour = (response, request, body) => {
  const { cost = 1 } = Object(body) as { readonly cost?: number };
  answers(200, { ...ADMITTED, released: true, cost })(response, request, body);
};

/** Denies a consume. */
export function denies(retryAfterSeconds: number, ofTheLimit: object = {}, ofTheDecision: object = {}): Behaviour {
  const limits = [{ ...ADMITTED.limits[0], used: 5, remaining: 0, ...ofTheLimit }];
  return answers(429, {
    ...ADMITTED,
    allowed: false,
    id: undefined,
    retry_after_seconds: retryAfterSeconds,
    limits,
    ...ofTheDecision,
  });
}

/** Both ways that calls are sent. What the client promises holds on either. */
export const TRANSPORTS = ["http", "session", "auto"] as const;
