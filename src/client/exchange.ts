import { tryWithin } from "./attempts.js";
import { Batches } from "./batches.js";
import { type Fetch, type Reply, send } from "./reply.js";

export type Op = "consume" | "check" | "settle" | "release";

/** An idempotency key. */
export interface Key {
  readonly text: string;
  /** Made up for this call. */
  readonly isNew: boolean;
  /** Set as soon as the service may have it. */
  isSent?: boolean;
}

export interface ExchangeOptions {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly deadlineMs: number;
  readonly isBatching: boolean;
  readonly fetch: Fetch;
}

/** A longer call travels alone: it is refused, or crowds out the others. At most 8 KiB, which no sound call needs. */
const LONGEST_CALL_CHARS = 2_048;

/** Calls to the service, each sent until there is an answer that can be read, or its deadline has passed. */
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
    read: (answer: Reply) => T,
  ): Promise<T> {
    const text = JSON.stringify(body);
    const batches = text.length <= LONGEST_CALL_CHARS ? this.#batches : undefined;
    return tryWithin(this.options.deadlineMs, signal, async (signal, nth) => {
      // Of a key that is new, the service is told which try it is: before the first one nobody has sent it.
      const attempt = key?.isNew ? nth : undefined;
      const sent = () => {
        if (key) key.isSent = true;
      };
      if (batches) return read(await batches.add({ op, ...body, idempotency_key: key?.text, attempt }, signal, sent));
      sent();
      const headers = {
        ...(key && { "Idempotency-Key": `"${key.text}"` }),
        ...(attempt && { "Idempotency-Attempt": String(attempt) }),
      };
      return read(await this.#post(op, headers, text, signal));
    });
  }

  get<T>(path: string, signal: AbortSignal | undefined, read: (answer: Reply) => T): Promise<T> {
    return tryWithin(this.options.deadlineMs, signal, async (signal) => read(await this.#send(path, { signal })));
  }

  #post(path: Op | "batch", headers: Record<string, string>, body: string, signal: AbortSignal): Promise<Reply> {
    const json = { "Content-Type": "application/json", ...headers };
    return this.#send(path, { method: "POST", headers: json, body, signal });
  }

  #send(path: string, init: RequestInit & { readonly headers?: Record<string, string> }): Promise<Reply> {
    const headers = { ...this.options.headers, ...init.headers };
    // A redirect would be followed with another method, or with the token to another host.
    return send(this.options.fetch, `${this.options.url}/v1/${path}`, { ...init, headers, redirect: "manual" });
  }
}
