import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import express, { type Express, type Request } from "express";
import express4 from "express4";
import { type Context, Hono } from "hono";
import { stream } from "hono/streaming";
import { onTestFinished } from "vitest";
import type { Cost, Limiter, Subject } from "../../src/client/index.js";
import { type Charge, rateLimit as expressLimit, type LimitOptions } from "../../src/middleware/express.js";
import { rateLimit as honoLimit } from "../../src/middleware/hono.js";

type HeaderOf = (name: string) => string | undefined;

/** The options that both frameworks have. Their functions get the headers of the request. */
export interface Options
  extends Pick<LimitOptions, "refund" | "releaseAfterResponse" | "publicBody" | "enabled" | "log"> {
  readonly cost?: Cost | ((headerOf: HeaderOf) => Cost | Promise<Cost>);
  readonly user?: (headerOf: HeaderOf) => Subject[string];
  readonly attributes?: (headerOf: HeaderOf) => Subject;
  readonly address?: (headerOf: HeaderOf) => string | undefined;
}

/** A status, or the chunks of a stream. */
export type Answer = number | AsyncIterable<string>;

export interface Route {
  readonly policy: string | ((headerOf: HeaderOf) => string);
  readonly options?: Options;
  readonly handle?: (charge: Charge) => Answer | Promise<Answer>;
}

export interface Application {
  readonly limiter: Limiter;
  readonly trustedProxies?: number;
  /** By path: each is a POST. */
  readonly routes: Readonly<Record<string, Route>>;
}

/** A framework that serves an application, until the end of the test. The result is its URL. */
export interface Framework {
  readonly name: string;
  readonly serve: (application: Application) => Promise<string>;
}

export const FRAMEWORKS: readonly Framework[] = [
  { name: "Express 5", serve: (application) => serveExpress(express(), application) },
  { name: "Express 4", serve: (application) => serveExpress(express4(), application) },
  { name: "Hono on Node", serve: (application) => listen(createAdaptorServer(honoOf(application)) as Server) },
];

export async function listen(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function serveExpress(app: Express, { limiter, trustedProxies = 0, routes }: Application): Promise<string> {
  // Else Express prints what handlers throw.
  app.set("env", "test");
  const limit = expressLimit(limiter, { trustedProxies });
  const headersOf = (request: Request) => (name: string) => request.get(name);
  for (const [path, { policy, options = {}, handle = () => 200 }] of Object.entries(routes)) {
    const middleware = limit(ofRequest(headersOf, policy), optionsOf(headersOf, options));
    app.post(path, middleware, async (request, response, next) => {
      try {
        const answer = await handle(request.rateLimit as Charge);
        if (typeof answer === "number") return void response.status(answer).json({ answer });
        for await (const chunk of answer) if (!response.write(chunk)) await once(response, "drain");
        response.end();
      } catch (error) {
        next(error);
      }
    });
  }
  return listen(createServer(app));
}

export function honoOf({ limiter, trustedProxies = 0, routes }: Application): Hono {
  const app = new Hono();
  app.onError((_, c) => c.text("failed", 500));
  const limit = honoLimit(limiter, { trustedProxies });
  const headersOf = (c: Context) => (name: string) => c.req.header(name);
  for (const [path, { policy, options = {}, handle = () => 200 }] of Object.entries(routes)) {
    app.post(path, limit(ofRequest(headersOf, policy), optionsOf(headersOf, options)), async (c) => {
      const answer = await handle(c.get("rateLimit"));
      if (typeof answer === "number") return new Response(JSON.stringify({ answer }), { status: answer });
      return stream(c, async (out) => {
        for await (const chunk of answer) await out.write(chunk);
      });
    });
  }
  return app;
}

function optionsOf<R>(headersOf: (request: R) => HeaderOf, { cost, user, attributes, address, ...rest }: Options) {
  return {
    ...rest,
    cost: ofRequest(headersOf, cost),
    user: user && ((request: R) => user(headersOf(request))),
    attributes: attributes && ((request: R) => attributes(headersOf(request))),
    address: address && ((request: R) => address(headersOf(request))),
  };
}

function ofRequest<R, T extends string | Cost | undefined>(
  headersOf: (request: R) => HeaderOf,
  value: T | ((headerOf: HeaderOf) => T | Promise<T>),
) {
  return typeof value === "function" ? (request: R) => value(headersOf(request)) : value;
}
