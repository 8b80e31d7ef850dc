import { tryWithin } from "./attempts.js";
import { Batches } from "./batches.js";
import { type Fetch, type Reply, send } from "./reply.js";

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
  readonly headers: Readonly<Record<string, string>>;
  readonly deadlineMs: number;
  readonly isBatching: boolean;
  readonly fetch: Fetch;
}

/**
 * A longer call is sent alone: in a batch it would take the room of others. In UTF-8 it is at most 8 KiB, the limit of
 * a call.
 */
const LONGEST_CALL_CHARS = 2_048;

/** Sends calls to the service, each until `read` accepts a reply or the deadline has passed. */
export class Exchange {
  readonly #batches: Batches | undefined;

  constructor(private readonly options: ExchangeOptions) {
    if (options.isBatching) this.#batches = new Batches((body, signal) => this.#post("batch", {}, body, signal));
  }

  call<T>(
    op: Op,
    body: Readonly<Record<string, unknown>>,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    read: (reply: Reply) => T,
  ): Promise<T> {
    const text = JSON.stringify(body);
    const batches = text.length <= LONGEST_CALL_CHARS ? this.#batches : undefined;
    return tryWithin(this.options.deadlineMs, signal, async (signal, nth) => {
      // For a new key the service gets the number of the attempt: before the first, nobody has sent the key.
      const attempt = key?.isNew ? nth : undefined;
      const onSent = () => {
        if (key) key.isSent = true;
      };
      if (batches) return read(await batches.add({ op, ...body, idempotency_key: key?.text, attempt }, signal, onSent));
      onSent();
      const headers = {
        ...(key && { "Idempotency-Key": `"${key.text}"` }),
        ...(attempt && { "Idempotency-Attempt": String(attempt) }),
      };
      return read(await this.#post(op, headers, text, signal));
    });
  }

  get<T>(path: string, signal: AbortSignal | undefined, read: (reply: Reply) => T): Promise<T> {
    return tryWithin(this.options.deadlineMs, signal, async (signal) => read(await this.#send(path, { signal })));
  }

  #post(path: Op | "batch", headers: Record<string, string>, body: string, signal: AbortSignal): Promise<Reply> {
    const json = { "Content-Type": "application/json", ...headers };
    return this.#send(path, { method: "POST", headers: json, body, signal });
  }

  #send(path: string, init: RequestInit & { readonly headers?: Record<string, string> }): Promise<Reply> {
    const headers = { ...this.options.headers, ...init.headers };
    // A redirect could change the method, or send the token to another host.
    return send(this.options.fetch, `${this.options.url}/v1/${path}`, { ...init, headers, redirect: "manual" });
  }
}
