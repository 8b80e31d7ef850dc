import type { Env } from "../service";
import type { Context } from "./app";
import { errorReply, Problem } from "./problem";
import { responseOf } from "./reply";

type FetchHandler = (request: Request, env: Env, context: Context) => Promise<Response>;

const POLL_MS = 10;
/** Longer than a decision takes. The runtime may never end the request of a client that hung up. */
const DRAIN_MS = 1_500;

/** Counts the requests in flight in this isolate, so that a shutdown can wait for them. */
export class RequestsInFlight {
  #count = 0;
  #isClosed = false;

  /** No new requests are wanted. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Wraps a handler. Once closed, it refuses new requests. */
  counted(fetch: FetchHandler): FetchHandler {
    return async (request, env, context) => {
      if (this.#isClosed) return responseOf(errorReply(stopping()));
      return this.count(() => fetch(request, env, context));
    };
  }

  async count<T>(work: () => Promise<T>): Promise<T> {
    this.#count += 1;
    try {
      return await work();
    } finally {
      this.#count -= 1;
    }
  }

  /** Refuses new requests, and waits for those in flight. */
  async close(): Promise<void> {
    this.#isClosed = true;
    // Polls, since a request on Workers can't wait for another request's promise.
    for (let waitedMs = 0; this.#count > 0 && waitedMs < DRAIN_MS; waitedMs += POLL_MS)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The requests of this isolate: over HTTP, and messages of sessions whose hub is here. */
export const requestsInFlight = new RequestsInFlight();

function stopping(): Problem {
  return new Problem(503, "Service Unavailable", "The service is stopping.", { "Retry-After": "1" });
}
