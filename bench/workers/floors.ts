import { DurableObject } from "cloudflare:workers";

/**
 * The least that a Worker of this shape must do, as floors to measure the service against. ADMITTED and DENIED are
 * answers of the service, recorded before the run, so that a floor moves the same bytes.
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

export class FloorObject extends DurableObject {
  #waiting: { readonly text: string; readonly done: () => void }[] = [];

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS floor_rows (id INTEGER PRIMARY KEY, text TEXT)");
  }

  empty(): void {}

  /** One row, one commit. */
  row(text: string): void {
    this.#insert(text);
  }

  /** One row; calls that arrive together share a commit. Each is answered when its row is durable. */
  async groupedRow(text: string): Promise<void> {
    await new Promise<void>((done) => {
      if (this.#waiting.push({ text, done }) === 1) setTimeout(() => this.#insertWaiting(), 0);
    });
  }

  #insertWaiting(): void {
    const together = this.#waiting;
    this.#waiting = [];
    // Writes without an await between them are one transaction; the output gate holds the answers until it is on disk.
    for (const { text } of together) this.#insert(text);
    for (const { done } of together) done();
  }

  #insert(text: string): void {
    this.ctx.storage.sql.exec("INSERT INTO floor_rows (text) VALUES (?)", text);
  }
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/empty") return new Response("{}");
    const object = env.FLOORS.getByName("shard:0");
    if (pathname === "/object") {
      await object.empty();
      return new Response("{}");
    }
    const body = JSON.stringify(await request.json());
    if (pathname === "/constant") return answer(env.DENIED);
    if (pathname === "/object-with-body") await object.empty();
    else if (pathname === "/row") await object.groupedRow(body);
    else await object.row(body);
    return answer(env.ADMITTED);
  },
};

function answer({ status, headers, body }: Recorded): Response {
  return new Response(body, { status, headers });
}
