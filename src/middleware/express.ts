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
    return async (request, response, next) => {
      const admission = await guard.admit(request).catch(next);
      if (!admission) return;
      if (admission.refusal) return reply(admission.refusal, request, response, next);
      const { charge } = admission;
      request.rateLimit = charge;
      for (const [name, value] of Object.entries(charge.decision.headers)) response.appendHeader(name, value);
      if (guard.hasEnd) {
        const end = () => void guard.end(charge, response.headersSent ? response.statusCode : LEFT);
        if (response.closed) end();
        else response.once("close", end);
      }
      next();
    };
  };
}

function answer({ status, headers, body }: Refusal, _: Request, response: Response): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.setHeader("Content-Type", PROBLEM);
  response.end(JSON.stringify(body));
}
