import type { Reply } from "./reply.js";

/** `isSent`: the service may have received it. */
export interface Sendable {
  isSent?: boolean;
}

export interface CallOptions {
  /** The request, as it stands in a message. */
  readonly json: string;
  /** By then it needs an answer. */
  readonly endsAtMs: number;
  readonly signal: AbortSignal | undefined;
  readonly key: Sendable | undefined;
  readonly resolve: (reply: Reply | undefined) => void;
  readonly reject: (reason: unknown) => void;
}

/** One attempt of a call, over a session. It is settled once; what comes later is ignored. */
export class Call {
  readonly json: string;
  readonly endsAtMs: number;
  readonly bytes: number;
  #isDone = false;
  readonly #options: CallOptions;

  constructor(options: CallOptions) {
    this.#options = options;
    this.json = options.json;
    this.endsAtMs = options.endsAtMs;
    this.bytes = bytesOf(options.json);
    options.signal?.addEventListener("abort", this.#onAbort);
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  onSent(): void {
    const { key } = this.#options;
    if (key) key.isSent = true;
  }

  /** Settles the call by a reply; by undefined if it must go by HTTP. */
  answer(reply: Reply | undefined): void {
    if (this.#isDone) return;
    this.#end();
    this.#options.resolve(reply);
  }

  fail(reason: unknown): void {
    if (this.#isDone) return;
    this.#end();
    this.#options.reject(reason);
  }

  #end(): void {
    this.#isDone = true;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = () => this.fail(this.#options.signal?.reason);
}

/** The length in UTF-8. Most requests are printable ASCII, and need not be encoded to know it. */
export function bytesOf(json: string): number {
  return /[^ -~]/.test(json) ? new TextEncoder().encode(json).length : json.length;
}
