import type { Socket } from "node:net";
import type { NextFunction, Request, RequestHandler, Response } from "express";
import type { Limiter } from "../client/index.js";
import type { Charge } from "./charge.js";
import { type ApplicationOptions, Guard, type GuardOptions, type OfRequest, type RequestReader } from "./guard.js";
import { PROBLEM, type Refusal } from "./refusal.js";

export type { Charge, Cost } from "./charge.js";
export { publicBody, type Refusal } from "./refusal.js";

declare global {
  namespace Express {
    interface Request {
      /** The charge of the request, by the last limit that it has passed. */
      rateLimit?: Charge;
    }
  }
}

/** Options of one limit. */
export interface LimitOptions extends GuardOptions<Request> {
  /** Answers a request that does not pass. Default: the status, headers and body of the refusal. */
  readonly reply?: ((refusal: Refusal, request: Request, response: Response, next: NextFunction) => void) | undefined;
}

/** Options of all limits of an application. */
export interface RateLimitOptions extends LimitOptions, ApplicationOptions<Request> {}

/** The status of a request whose visitor left before there was a response. */
const LEFT = 499;

const READER: RequestReader<Request> = {
  header: (request, name) => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(",") : value;
  },
  peer: (request) => request.socket.remoteAddress,
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
): (policy: OfRequest<Request, string>, options?: LimitOptions) => RequestHandler {
  return (policy, ownOptions) => {
    const merged = { ...options, ...ownOptions };
    const { reply = answer } = merged;
    const guard = new Guard(limiter, READER, policy, merged);
    const pass = async (request: Request, response: Response, next: NextFunction): Promise<boolean> => {
      const admission = await guard.admit(request);
      if (admission.refusal) {
        await reply(admission.refusal, request, response, next);
        return false;
      }
      const { charge } = admission;
      request.rateLimit = charge;
      if (guard.hasEnd)
        onceEnded(request, response, () => void guard.end(charge, response.headersSent ? response.statusCode : LEFT));
      // A timeout may have answered, or a stream have begun, while the limiter was asked.
      if (!response.headersSent)
        for (const [name, value] of Object.entries(charge.decision.headers)) response.appendHeader(name, value);
      return true;
    };
    // Express 4 does not look at promises: a rejected one would end the process.
    return (request, response, next) =>
      pass(request, response, next).then(
        (isPassed) => isPassed && next(),
        (error: unknown) => next(errorOf(error)),
      );
  };
}

/** An error for `next`, which takes nothing and the texts "route" and "router" for leave to go on. */
function errorOf(thrown: unknown): unknown {
  return Object(thrown) === thrown ? thrown : new Error(`A limit has failed: ${thrown}`);
}

/** What waits for the end of a connection, by connection: a listener each would be too many for it. */
const waiting = new WeakMap<Socket, Set<() => void>>();

/** Calls `end` once, when the response has ended or its visitor has left. */
function onceEnded({ socket }: Request, response: Response, end: () => void): void {
  // A pipelined response that waits for its turn has no socket, and is not told when the connection closes.
  const isQueued = response.socket === null;
  const ends = isQueued ? waitingFor(socket) : undefined;
  const endOnce = () => {
    response.off("close", endOnce);
    ends?.delete(endOnce);
    end();
  };
  ends?.add(endOnce);
  response.once("close", endOnce);
  if (response.closed || (isQueued && socket.destroyed)) endOnce();
}

function waitingFor(socket: Socket): Set<() => void> {
  const known = waiting.get(socket);
  if (known) return known;
  const ends = new Set<() => void>();
  waiting.set(socket, ends);
  socket.once("close", () => {
    for (const endOnce of ends) endOnce();
  });
  return ends;
}

function answer({ status, headers, body }: Refusal, _: Request, response: Response): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.setHeader("Content-Type", PROBLEM);
  response.end(JSON.stringify(body));
}
