import { once } from "node:events";
import WebSocket from "ws";
import type { Target } from "../behaviour/target";

export interface Message {
  readonly id?: unknown;
  readonly requests?: unknown;
  readonly [field: string]: unknown;
}

interface Result {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body: unknown;
}

export interface Answer {
  readonly id: number | null;
  readonly results?: readonly Result[];
  readonly error?: { readonly status: number; readonly detail: string };
}

/** A session as a client without a library would hold it: it sends what it is told to, and keeps every answer. */
export class RawSession {
  readonly answers: Answer[] = [];
  readonly texts: string[] = [];
  readonly closed: Promise<number>;
  readonly #waiting = new Set<() => void>();
  /** Far from the ids that tests choose themselves. */
  #next = 1_000;

  constructor(readonly socket: WebSocket) {
    socket.on("message", (data) => {
      const text = String(data);
      this.texts.push(text);
      if (text !== "pong") this.answers.push(JSON.parse(text) as Answer);
      for (const wake of [...this.#waiting]) wake();
    });
    this.closed = new Promise((resolve) => socket.on("close", resolve));
  }

  static async open(url: string, headers: Record<string, string>, protocols: string[] = []): Promise<RawSession> {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/session`, protocols, { headers });
    const session = new RawSession(socket);
    await once(socket, "open");
    return session;
  }

  send(message: Message | string): void {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** The answer to a message, whose id it makes. */
  async ask(message: Message): Promise<Answer> {
    const id = this.#next++;
    this.send({ id, ...message });
    return this.until(() => this.answers.find((answer) => answer.id === id));
  }

  async until<T>(found: () => T | undefined): Promise<T> {
    for (;;) {
      const value = found();
      if (value !== undefined) return value;
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
      });
    }
  }
}

const OPS: Readonly<Record<string, string>> = {
  "/v1/consume": "consume",
  "/v1/check": "check",
  "/v1/settle": "settle",
  "/v1/release": "release",
};

/** The same target, whose decisions go over a session: each as a batch of one. Everything else goes over HTTP. */
export function sessionTarget(target: Target, session: RawSession): Target {
  return {
    ...target,
    async fetch(path, init = {}) {
      const sent = typeof init.body === "string" ? batchable(init.body) : undefined;
      const op = OPS[path];
      if (sent && op) {
        const { results, error } = await session.ask({ headers: true, requests: [{ op, ...sent, ...keyOf(init) }] });
        return responseOf(results?.[0] ?? { status: error?.status ?? 0, body: error });
      }
      if (sent && path === "/v1/batch") {
        const { results, error } = await session.ask(sent);
        return responseOf(results ? { status: 200, body: { results } } : { status: error?.status ?? 0, body: error });
      }
      return target.fetch(path, init);
    },
  };
}

/** The object in a body, if a message can carry it: the others are no matter of sessions. */
function batchable(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith("{") || Buffer.byteLength(text) > 65_000) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function keyOf({ headers }: RequestInit): Record<string, unknown> {
  const sent = new Headers(headers);
  const key = sent.get("Idempotency-Key")?.replace(/^"(.*)"$/, "$1");
  const attempt = sent.get("Idempotency-Attempt");
  return { ...(key !== undefined && { idempotency_key: key }), ...(attempt !== null && { attempt: Number(attempt) }) };
}

function responseOf({ status, headers, body }: Result): Response {
  const type = status >= 400 ? "application/problem+json" : "application/json";
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": type, ...headers } });
}
