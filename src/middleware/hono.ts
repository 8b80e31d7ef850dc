import type { Context, MiddlewareHandler } from "hono";
import type { Limiter } from "../client/index.js";
import { isWorker } from "../client/socket.js";
import type { Charge } from "./charge.js";
import { type ApplicationOptions, Guard, type GuardOptions, type OfRequest, type RequestReader } from "./guard.js";
import { PROBLEM, type Refusal } from "./refusal.js";

export type { Charge, Cost } from "./charge.js";
export { publicBody, type Refusal } from "./refusal.js";

declare module "hono" {
  interface ContextVariableMap {
    /** The charge of the request, by the last limit that it has passed. */
    rateLimit: Charge;
  }
}

/** Options of one limit. */
export interface LimitOptions extends GuardOptions<Context> {
  /** Answers a request that does not pass. Default: the status, headers and body of the refusal. */
  readonly reply?: ((refusal: Refusal, c: Context) => Response | Promise<Response>) | undefined;
}

/** Options of all limits of an application. */
export interface RateLimitOptions extends LimitOptions, ApplicationOptions<Context> {}

/** Where the runtimes put the peer's address: Node (`@hono/node-server`), Deno and Bun. */
interface Connection {
  readonly incoming?: { readonly socket?: { readonly remoteAddress?: string } };
  readonly remoteAddr?: { readonly hostname?: string };
  readonly requestIP?: (request: Request) => { readonly address: string } | null;
  readonly server?: Connection;
  /** Node's response. */
  readonly outgoing?: Outgoing;
}

interface Outgoing {
  readonly headersSent: boolean;
  readonly statusCode: number;
  readonly writableEnded: boolean;
  readonly closed: boolean;
  once(event: "close", listener: () => void): unknown;
}

const READER: RequestReader<Context> = {
  header: (c, name) => c.req.header(name),
  peer: (c) => {
    // Cloudflare sets it on every request from outside, whatever the visitor sent.
    if (isWorker()) return c.req.header("CF-Connecting-IP");
    const env: Connection | undefined = c.env;
    const address = env?.incoming?.socket?.remoteAddress ?? env?.remoteAddr?.hostname;
    return address ?? (env?.requestIP ? env : env?.server)?.requestIP?.(c.req.raw)?.address;
  },
};

/**
 * Makes limits for routes:
 *
 *     const limit = rateLimit(limiter, { trustedProxies: 1 });
 *     app.post("/chat/message", limit("chat"), handler);
 *
 * A denied request is answered with 429 and `Retry-After`. Responses to requests that pass have the `RateLimit`
 * headers. The options of a limit replace those of the application.
 */
export function rateLimit(
  limiter: Limiter,
  options: RateLimitOptions,
): (policy: OfRequest<Context, string>, options?: LimitOptions) => MiddlewareHandler {
  return (policy, ownOptions) => {
    const merged = { ...options, ...ownOptions };
    const { reply = answer } = merged;
    const guard = new Guard(limiter, READER, policy, merged);
    return async (c, next) => {
      const admission = await guard.admit(c);
      if (admission.refusal) return reply(admission.refusal, c);
      const { charge } = admission;
      c.set("rateLimit", charge);
      try {
        await next();
      } catch (error) {
        inBackground(c, guard.end(charge, 500));
        throw error;
      }
      addHeaders(c, charge);
      if (guard.hasEnd && !isUpgraded(c))
        inBackground(
          c,
          statusAtEnd(c).then((status) => guard.end(charge, status)),
        );
      return undefined;
    };
  };
}

function answer({ status, headers, body }: Refusal, c: Context): Response {
  return c.body(JSON.stringify(body), status, { ...headers, "Content-Type": PROBLEM });
}

function addHeaders(c: Context, { decision }: Charge): void {
  // Adding headers makes a new response, which the standard does not allow with this status.
  if (c.res.status === 101 || isSent(c)) return;
  for (const [name, value] of Object.entries(decision.headers)) c.header(name, value, { append: true });
}

/**
 * Whether the request became a WebSocket, which outlives its response. On Node and Bun, Hono's response to an upgrade is
 * empty and is not sent.
 */
function isUpgraded(c: Context): boolean {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") return false;
  return c.res.status === 101 || (c.res.status === 200 && c.res.body === null);
}

/** Whether a response is on its way to the visitor, such as that of a timeout, and can't be changed. */
function isSent(c: Context): boolean {
  const outgoing = outgoingOf(c);
  return outgoing ? outgoing.headersSent : c.res.body?.locked === true;
}

function outgoingOf(c: Context): Outgoing | undefined {
  const env: Connection | undefined = c.env;
  return env?.outgoing;
}

/** The status of the response once it has ended; 500 if its stream fails. */
async function statusAtEnd(c: Context): Promise<number> {
  const outgoing = outgoingOf(c);
  if (!outgoing) return isSent(c) ? c.res.status : statusAtEndOfBody(c);
  // Nobody reads the body if an error further outside replaces the response.
  const closed = statusAtClose(outgoing, c);
  return isSent(c) ? closed : Promise.race([statusAtEndOfBody(c), closed]);
}

async function statusAtClose(outgoing: Outgoing, c: Context): Promise<number> {
  if (!outgoing.closed && !outgoing.writableEnded)
    await new Promise<void>((resolve) => outgoing.once("close", resolve));
  // Nothing was sent if the visitor left before the response.
  return outgoing.headersSent ? outgoing.statusCode : c.res.status;
}

async function statusAtEndOfBody(c: Context): Promise<number> {
  const { status, body } = c.res;
  // Nobody reads the body of a HEAD.
  if (body === null || c.req.method === "HEAD") return status;
  return new Promise((resolve) => {
    const onEnd = (hasFailed: boolean) => resolve(hasFailed ? 500 : status);
    c.res = new Response(followed(body, onEnd), c.res);
  });
}

/** The same stream. Calls `onEnd` when it has ended, fails or is cancelled. */
function followed(body: ReadableStream<Uint8Array>, onEnd: (hasFailed: boolean) => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const result = await reader.read().catch((error: unknown) => {
      onEnd(true);
      throw error;
    });
    if (!result.done) return controller.enqueue(result.value);
    onEnd(false);
    controller.close();
  };
  const cancel = (reason: unknown) => {
    onEnd(false);
    return reader.cancel(reason);
  };
  // Reads nothing ahead.
  return new ReadableStream({ pull, cancel }, { highWaterMark: 0 });
}

/** Workers end background work with the request, unless they are told to wait. Other runtimes have no such context. */
function inBackground(c: Context, work: Promise<void>): void {
  try {
    c.executionCtx.waitUntil(work);
  } catch {}
}
