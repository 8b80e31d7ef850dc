import type { Env } from "../edge/service";
import type { Context } from "./app";
import { errorReply, Problem } from "./problem";
import { responseOf } from "./reply";

type Fetch = (request: Request, env: Env, context: Context) => Promise<Response>;

const POLL_MS = 10;
/** Longer than a decision takes. A request whose client hung up may never be seen to end. */
const DRAIN_MS = 1_500;

/** Requests under way in this isolate, so that a shutdown can wait for them. */
export class UnderWay {
  #count = 0;
  #isClosed = false;

  /** The same handler, watched. Once it is closed, it refuses new requests. */
  watched(fetch: Fetch): Fetch {
    return async (request, env, context) => {
      if (this.#isClosed) return responseOf(errorReply(stopping()));
      this.#count += 1;
      try {
        return await fetch(request, env, context);
      } finally {
        this.#count -= 1;
      }
    };
  }

  /** Takes no new requests, and waits for those under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    // One request can't wait for another one's promise on Workers.
    for (let waitedMs = 0; this.#count > 0 && waitedMs < DRAIN_MS; waitedMs += POLL_MS)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function stopping(): Problem {
  return new Problem(503, "Service Unavailable", "The service is stopping.", { "Retry-After": "1" });
}
