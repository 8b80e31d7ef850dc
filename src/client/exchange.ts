import { tryWithin, within } from "./attempts.js";
import { type Fetch, type Reply, requireNoServerError, send } from "./reply.js";
import { Sessions } from "./sessions.js";

export type Op = "consume" | "check" | "settle" | "release";

/** An idempotency key. */
export interface Key {
  readonly text: string;
  /** The client made it for this call. */
  readonly isNew: boolean;
  /** The service may have received it. */
  isSent?: boolean;
}

export interface ExchangeOptions {
  readonly url: string;
  readonly token: string;
  readonly deadlineMs: number;
  readonly transport: "auto" | "http" | "session";
  readonly fetch: Fetch;
}

/** A call to one of the operations. */
interface Operation {
  readonly op: Op;
  readonly body: Readonly<Record<string, unknown>>;
  readonly key: Key | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * A longer call goes by HTTP: in a message it would take the room of others. In UTF-8 it is at most 8 KiB, the limit of
 * a call.
 */
const LONGEST_CALL_CHARS = 2_048;

/** Sends calls to the service, each until `read` accepts a reply or the deadline has passed. */
export class Exchange {
  readonly #sessions: Sessions | undefined;

  constructor(private readonly options: ExchangeOptions) {
    const { url, token, deadlineMs, transport } = options;
    if (transport !== "http")
      this.#sessions = new Sessions({ url, token, deadlineMs, canFallBack: transport === "auto" });
  }

  call<T>(
    op: Op,
    body: Readonly<Record<string, unknown>>,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    read: (reply: Reply) => T,
  ): Promise<T> {
    const operation = { op, body, key, signal };
    return tryWithin(this.options.deadlineMs, signal, async (ms, nth) => {
      // For a new key the service gets the number of the attempt: before the first, nobody has sent the key.
      const attempt = key?.isNew ? nth : undefined;
      const json = this.#sessions?.areOffered ? messageTextOf(operation, attempt) : undefined;
      if (!this.#sessions || json === undefined) return read(await this.#post(operation, attempt, ms, false));
      const startedMs = performance.now();
      const reply = await this.#sessions.ask(json, ms, signal, key);
      if (reply) return read(requireNoServerError(reply));
      return read(await this.#post(operation, attempt, ms - (performance.now() - startedMs), true));
    });
  }

  get<T>(path: string, signal: AbortSignal | undefined, read: (reply: Reply) => T): Promise<T> {
    return tryWithin(this.options.deadlineMs, signal, async (ms) =>
      read(await within(ms, signal, (signal) => this.#send(path, { signal }))),
    );
  }

  /** Ends the session once nothing is unanswered. */
  close(): void {
    this.#sessions?.close();
  }

  #post(
    { op, body, key, signal }: Operation,
    attempt: number | undefined,
    ms: number,
    wasTurnedAway: boolean,
  ): Promise<Reply> {
    return within(ms, signal, async (signal) => {
      if (key) key.isSent = true;
      const headers = {
        "Content-Type": "application/json",
        ...(key && { "Idempotency-Key": `"${key.text}"` }),
        ...(attempt && { "Idempotency-Attempt": String(attempt) }),
      };
      const reply = await this.#send(op, { method: "POST", headers, body: JSON.stringify(body), signal });
      this.#sessions?.onHttpReply(wasTurnedAway);
      return reply;
    });
  }

  #send(path: string, init: RequestInit & { readonly headers?: Record<string, string> }): Promise<Reply> {
    const { url, token, fetch } = this.options;
    const headers = { Authorization: `Bearer ${token}`, ...init.headers };
    // A redirect could change the method, or send the token to another host.
    return send(fetch, `${url}/v1/${path}`, { ...init, headers, redirect: "manual" });
  }
}

/** The request as it stands in a message; undefined if it is too long for one. */
function messageTextOf({ op, body, key }: Operation, attempt: number | undefined): string | undefined {
  const json = JSON.stringify({ op, ...body, idempotency_key: key?.text, attempt });
  return json.length <= LONGEST_CALL_CHARS ? json : undefined;
}
