import { fieldsOf } from "./decision.js";
import { errorOf, forwardedHeaders, type Reply, requireNoServerError } from "./reply.js";

/** What the service takes as one batch. */
const MOST_CALLS = 100;
const MOST_BYTES = 64 * 1_024;

const OPENING = '{"headers":true,"requests":[';
const CLOSING = "]}";

/** A call that waits for its turn, or for the batch that it travels in. */
interface WaitingCall {
  /** Its JSON. */
  readonly item: string;
  readonly bytes: number;
  readonly resolve: (answer: Reply | Promise<Reply>) => void;
  /** Is told when its batch is sent. */
  readonly onSent: () => void;
}

/**
 * Calls that travel together: those that are made while a batch is under way are the next one. Nobody waits for a timer,
 * and the busier the caller is, the more each request carries.
 *
 * A call that is given up leaves its batch, and a batch that all have left is given up too: it holds up nobody.
 */
export class Batches {
  /** In the order in which they were made. */
  readonly #waiting = new Set<WaitingCall>();
  /** The calls of the batch under way that are still waited for, and how to give it up. */
  #travelling: { readonly calls: Set<WaitingCall>; readonly over: AbortController } | undefined;
  #isUnderWay = false;

  /** `post` sends the body of a batch. */
  constructor(private readonly post: (body: string, signal: AbortSignal) => Promise<Reply>) {}

  /**
   * What is answered to this call, as if it had been sent alone. Once `signal` is aborted, maybe never.
   * @throws UnavailableError as `send` does, or the error that the whole batch was refused with.
   */
  add(call: unknown, signal: AbortSignal, onSent: () => void): Promise<Reply> {
    const item = JSON.stringify(call);
    const bytes = new TextEncoder().encode(item).length + ",".length;
    return new Promise((resolve) => {
      const waiting = { item, bytes, resolve, onSent };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", () => this.#leave(waiting));
      if (!this.#isUnderWay) this.#sendAll();
    });
  }

  async #sendAll(): Promise<void> {
    this.#isUnderWay = true;
    // Calls made in one turn travel together from the first one on.
    await Promise.resolve();
    while (this.#waiting.size > 0) await this.#send(this.#next());
    this.#isUnderWay = false;
  }

  /** The first of those who wait, as many as fit. */
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
    const over = new AbortController();
    this.#travelling = { calls: new Set(batch), over };
    const body = `${OPENING}${batch.map(({ item }) => item).join()}${CLOSING}`;
    const answer = this.post(body, over.signal);
    const answers = answer.then((answer) => repliesIn(answer, batch.length));
    batch.forEach(({ resolve }, i) => {
      resolve(answers.then((answers) => requireNoServerError(answers[i] as Reply)));
    });
    // What does not end when it is told to is not waited for.
    const left = new Promise((resolve) => over.signal.addEventListener("abort", resolve));
    await Promise.race([answers.catch(() => {}), left]);
    this.#travelling = undefined;
  }

  #leave(waiting: WaitingCall): void {
    this.#waiting.delete(waiting);
    const travelling = this.#travelling;
    if (travelling?.calls.delete(waiting) && travelling.calls.size === 0) travelling.over.abort();
  }
}

/**
 * What was answered to each of `count` calls.
 * @throws UnavailableError when that is no answer to a batch, or the error that all of it is refused with.
 */
function repliesIn(answer: Reply, count: number): Reply[] {
  const { results } = fieldsOf(answer.body);
  if (!Array.isArray(results) || results.length !== count) throw errorOf(answer);
  return results.map((result: unknown) => {
    const { status, headers, body } = fieldsOf(result);
    const given = fieldsOf(headers);
    return { status: Number(status), headers: forwardedHeaders((name) => given[name]), body };
  });
}
