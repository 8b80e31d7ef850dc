import { tryWithin, within } from "./attempts.js";
import { bytesOf } from "./call.js";
import { InvalidRequestError, MismatchedReplyError } from "./errors.js";
import type { Key } from "./keys.js";
import { type Fetch, type Reply, requireNoServerError, send } from "./reply.js";
import { Sessions } from "./sessions.js";

export type Op = "consume" | "check" | "settle" | "release";

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
  /** The body: an object as JSON, with at least one field. */
  readonly json: string;
  readonly key: Key | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * A longer call goes by HTTP: in a message it would take the room of others. In UTF-8 it is at most 8 KiB, the limit of
 * a call.
 */
const LONGEST_CALL_CHARS = 2_048;
const LONGEST_BODY_BYTES = 8_192;

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
    json: string,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    read: (reply: Reply) => T,
  ): Promise<T> {
    const operation = { op, json, key, signal };
    return tryWithin(this.options.deadlineMs, signal, async (ms) => {
      // For a new key the service gets the number of the attempt: before the first, nobody has sent the key.
      const attempt = key?.isNew ? ++key.attempts : undefined;
      try {
        return read(await this.#attempt(operation, attempt, ms));
      } catch (error) {
        if (error instanceof MismatchedReplyError) this.#sessions?.drop(error.message);
        throw error;
      }
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

  async #attempt(operation: Operation, attempt: number | undefined, ms: number): Promise<Reply> {
    const text = this.#sessions?.areOffered ? messageTextOf(operation, attempt) : undefined;
    if (!this.#sessions || text === undefined) return this.#post(operation, attempt, ms, false);
    const startedMs = performance.now();
    const reply = await this.#sessions.ask(text, ms, operation.signal, operation.key);
    if (reply) return requireNoServerError(reply);
    return this.#post(operation, attempt, ms - (performance.now() - startedMs), true);
  }

  #post(
    { op, json, key, signal }: Operation,
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
      const reply = await this.#send(op, { method: "POST", headers, body: json, signal });
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

/**
 * A body as JSON.
 * @throws InvalidRequestError above the service's limit. A server may cut off a request that is too long, which would
 * look like an outage.
 */
export function encode(body: object): string {
  const json = JSON.stringify(body);
  if (bytesOf(json) <= LONGEST_BODY_BYTES) return json;
  throw new InvalidRequestError(413, "The request is above 8 KiB.");
}

/** The request as it stands in a message; undefined if it is too long for one. */
function messageTextOf({ op, json, key }: Operation, attempt: number | undefined): string | undefined {
  const ofKey = key ? `"idempotency_key":"${key.text}",` : "";
  const ofAttempt = attempt ? `"attempt":${attempt},` : "";
  const text = `{"op":"${op}",${ofKey}${ofAttempt}${json.slice(1)}`;
  return text.length <= LONGEST_CALL_CHARS ? text : undefined;
}
