import { DurableObject } from "cloudflare:workers";

/**
 * Floors: the least that a Worker of this shape must do. ADMITTED and DENIED are answers of the service, recorded before
 * the run, so that a floor moves the same bytes.
 */
interface Recorded {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

interface Env {
  readonly FLOORS: DurableObjectNamespace<FloorObject>;
  readonly ADMITTED: Recorded;
  readonly DENIED: Recorded;
}

interface Waiting {
  readonly text: string | undefined;
  readonly done: () => void;
}

/**
 * Answers calls that arrive at the same time together, in one later turn. Answering one by one halves the rate even of
 * empty calls; the `-alone` floors do so for comparison.
 */
export class FloorObject extends DurableObject {
  #waiting: Waiting[] = [];

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS floor_rows (id INTEGER PRIMARY KEY, text TEXT)");
  }

  /** Writes one row if there is a text. Resolves once the row is durable. */
  together(text: string | undefined): Promise<void> {
    return new Promise((done) => {
      if (this.#waiting.push({ text, done }) === 1) setTimeout(() => this.#turn(), 0);
    });
  }

  alone(text: string | undefined): void {
    if (text !== undefined) this.#insert(text);
  }

  #turn(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    // Writes without an await between them are one transaction. The output gate holds the answers until it is durable.
    for (const { text, done } of waiting) {
      this.alone(text);
      done();
    }
  }

  #insert(text: string): void {
    this.ctx.storage.sql.exec("INSERT INTO floor_rows (text) VALUES (?)", text);
  }
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const object = () => env.FLOORS.getByName("shard:0");
    switch (new URL(request.url).pathname) {
      case "/empty":
        return new Response("{}");
      case "/constant":
        await request.json();
        return answer(env.DENIED);
      case "/object":
        await object().together(undefined);
        return new Response("{}");
      case "/object-alone":
        await object().alone(undefined);
        return new Response("{}");
      case "/row":
        await object().together(await request.text());
        return answer(env.ADMITTED);
      case "/row-alone":
        await object().alone(await request.text());
        return answer(env.ADMITTED);
      default:
        return new Response(null, { status: 404 });
    }
  },
};

function answer({ status, headers, body }: Recorded): Response {
  return new Response(body, { status, headers });
}
