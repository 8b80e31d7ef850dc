import { fieldsOf } from "./decision.js";
import { errorOf, forwardedHeaders, type Reply, requireNoServerError } from "./reply.js";

/** The service refuses a larger batch. */
const MOST_CALLS = 100;
const MOST_BYTES = 64 * 1_024;

const OPENING = '{"headers":true,"requests":[';
const CLOSING = "]}";

/** A call that waits for its batch to be sent or answered. */
interface WaitingCall {
  readonly json: string;
  readonly bytes: number;
  readonly resolve: (reply: Reply | Promise<Reply>) => void;
  /** Called when its batch is sent. */
  readonly onSent: () => void;
}

/**
 * Sends calls together: those made while a batch is in flight form the next batch. No call waits for a timer, and a
 * busier caller sends more calls per request.
 *
 * An aborted call leaves its batch. A batch that all calls have left is aborted too, so that it does not delay the
 * next.
 */
export class Batches {
  /** In the order of the calls. */
  readonly #waiting = new Set<WaitingCall>();
  /** The batch in flight: its calls that have not left, and how to abort it. */
  #inFlight: { readonly calls: Set<WaitingCall>; readonly abort: AbortController } | undefined;
  #isSending = false;

  /** `post` sends the body of a batch. */
  constructor(private readonly post: (body: string, signal: AbortSignal) => Promise<Reply>) {}

  /**
   * Sends a call in a batch. Resolves to its reply, as if it had been sent alone. May never settle once `signal` is
   * aborted.
   * @throws UnavailableError like `send`, or the error of the whole batch.
   */
  add(call: unknown, signal: AbortSignal, onSent: () => void): Promise<Reply> {
    const json = JSON.stringify(call);
    const bytes = new TextEncoder().encode(json).length + ",".length;
    return new Promise((resolve) => {
      const waiting = { json, bytes, resolve, onSent };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", () => this.#leave(waiting));
      if (!this.#isSending) this.#sendAll();
    });
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    // Calls made in the same turn are sent together, the first call included.
    await Promise.resolve();
    while (this.#waiting.size > 0) await this.#send(this.#next());
    this.#isSending = false;
  }

  /** Takes the first waiting calls, as many as fit into a batch. */
  #next(): WaitingCall[] {
    const batch: WaitingCall[] = [];
    let bytes = OPENING.length + CLOSING.length;
    for (const waiting of this.#waiting) {
      bytes += waiting.bytes;
      if (batch.length > 0 && (batch.length === MOST_CALLS || bytes > MOST_BYTES)) break;
      batch.push(waiting);
      this.#waiting.delete(waiting);
      waiting.onSent();
    }
    return batch;
  }

  async #send(batch: readonly WaitingCall[]): Promise<void> {
    const abort = new AbortController();
    this.#inFlight = { calls: new Set(batch), abort };
    const body = `${OPENING}${batch.map(({ json }) => json).join()}${CLOSING}`;
    const replies = this.post(body, abort.signal).then((reply) => repliesIn(reply, batch.length));
    batch.forEach(({ resolve }, i) => {
      resolve(replies.then((replies) => requireNoServerError(replies[i] as Reply)));
    });
    // A `fetch` that ignores its signal must not delay the next batch.
    const aborted = new Promise((resolve) => abort.signal.addEventListener("abort", resolve));
    await Promise.race([replies.catch(() => {}), aborted]);
    this.#inFlight = undefined;
  }

  #leave(waiting: WaitingCall): void {
    this.#waiting.delete(waiting);
    const inFlight = this.#inFlight;
    if (inFlight?.calls.delete(waiting) && inFlight.calls.size === 0) inFlight.abort.abort();
  }
}

/**
 * The replies to the `count` calls of a batch.
 * @throws UnavailableError if it is no reply to a batch, or the error that the whole batch is refused with.
 */
function repliesIn(reply: Reply, count: number): Reply[] {
  const { results } = fieldsOf(reply.body);
  if (!Array.isArray(results) || results.length !== count) throw errorOf(reply);
  return results.map((result: unknown) => {
    const { status, headers, body } = fieldsOf(result);
    const headersByName = fieldsOf(headers);
    return { status: Number(status), headers: forwardedHeaders((name) => headersByName[name]), body };
  });
}
