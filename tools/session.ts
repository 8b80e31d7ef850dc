import { once } from "node:events";
import { WebSocket } from "ws";

/** How long a handshake or an answer may take. Then the connection is given up as dead. */
const LONGEST_MS = 10_000;

interface Result {
  readonly status: number;
  readonly body: unknown;
}

interface Answer {
  readonly id: number | null;
  readonly results?: readonly Result[];
  readonly error?: { readonly status: number };
}

/**
 * Asks over a session as a caller without a client library does. When the session has ended, the next question opens
 * another. Sends nothing again by itself.
 */
export class SessionCaller {
  /** How many sessions were opened. */
  opened = 0;
  #socket: WebSocket | undefined;
  #opening: Promise<WebSocket> | undefined;
  readonly #unanswered = new Map<number, (answer: Answer | undefined) => void>();
  #nextId = 0;

  /** @param url of the service, undefined while it is down: it has another one after each start */
  constructor(
    private readonly url: () => string | undefined,
    private readonly token: string,
  ) {}

  /**
   * Sends a message. Resolves to its results, an `error` being that of every request, and to undefined if there is no
   * answer: they may have been decided or not.
   */
  async ask(requests: readonly unknown[]): Promise<readonly Result[] | undefined> {
    let socket: WebSocket;
    try {
      socket = this.#socket ?? (await this.#open());
    } catch {
      return undefined;
    }
    const id = this.#nextId++;
    const answer = await new Promise<Answer | undefined>((resolve) => {
      const timer = setTimeout(() => socket.terminate(), LONGEST_MS);
      this.#unanswered.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id, requests }));
      else this.#onEnd(socket);
    });
    const { error } = answer ?? {};
    return error ? requests.map(() => ({ status: error.status, body: error })) : answer?.results;
  }

  /** Drops the connection without a close, as a caller does that dies. */
  drop(): void {
    this.#socket?.terminate();
  }

  #open(): Promise<WebSocket> {
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  async #connect(): Promise<WebSocket> {
    const url = this.url();
    if (url === undefined) throw new Error("the service is down");
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/session`, {
      headers: { Authorization: `Bearer ${this.token}` },
      perMessageDeflate: false,
      handshakeTimeout: LONGEST_MS,
    });
    socket.on("message", (data) => this.#receive(socket, JSON.parse(String(data)) as Answer));
    // A close follows each error.
    socket.on("error", () => {});
    socket.on("close", () => this.#onEnd(socket));
    await once(socket, "open");
    this.#socket = socket;
    this.opened++;
    return socket;
  }

  #receive(socket: WebSocket, answer: Answer): void {
    if (this.#socket !== socket) return;
    const resolve = this.#unanswered.get(answer.id as number);
    if (!resolve) throw new Error(`an answer to nothing that was asked: ${JSON.stringify(answer).slice(0, 500)}`);
    this.#unanswered.delete(answer.id as number);
    resolve(answer);
  }

  #onEnd(socket: WebSocket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    for (const resolve of this.#unanswered.values()) resolve(undefined);
    this.#unanswered.clear();
  }
}
