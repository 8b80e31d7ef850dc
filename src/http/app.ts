import { type IRequest, Router } from "itty-router";
import type { Env } from "../service";
import { GATE_PATH, GATE_TOKEN } from "./auth";
import { errorReply, Problem } from "./problem";
import { responseOf } from "./reply";

export type Handler<E> = (request: IRequest, env: E, context: Context) => Response | Promise<Response>;

/** The part of the execution context that handlers use: work that outlives the response. */
export type Context = Pick<ExecutionContext, "waitUntil">;

type Method = "get" | "post" | "put" | "delete" | "all";

export type Route<E = Env> = readonly [method: Method, path: string, handler: Handler<E>];

/** Answers any HTTP request by these routes, and never throws. */
export function appOf<E>(routes: readonly Route<E>[]) {
  const router = routerOf(routes);
  return async (request: Request, env: E, context: Context): Promise<Response> => {
    const { method, url, headers } = request;
    // An invalid Host header makes an invalid URL.
    if (!URL.canParse(url)) return answerError(new Problem(400, "Bad Request", "The Host header is invalid."));
    if (method !== "HEAD") return router.fetch(request, env, context);
    // A GET must not have a body, which a HEAD may have.
    const get = new Request(url, { method: "GET", headers });
    // Nor does a HEAD open a session.
    get.headers.delete("Upgrade");
    return new Response(null, await router.fetch(get, env, context));
  };
}

function routerOf<E>(routes: readonly Route<E>[]) {
  const router = Router<IRequest, [E, Context]>({
    before: [refuseStrayGateCall, refuseTrailingSlash],
    catch: answerError,
  });
  for (const [method, path, handler] of routes) router[method](path, handler);
  for (const path of new Set(routes.filter(([method]) => method !== "all").map(([, path]) => path))) {
    const methods = routes.filter(([, other]) => other === path).map(([method]) => method);
    router.all(path, ({ method }) => methodNotAllowed(method, methods));
  }
  router.all("*", notFound);
  return router;
}

/**
 * Some proxies append the visitor's path to that of the gate. A visitor's `/../../../healthz` must not lead to another call,
 * whose 200 would let the visitor pass.
 */
function refuseStrayGateCall({ url, headers }: IRequest): void {
  if (headers.has(GATE_TOKEN) && !new URL(url).pathname.startsWith(GATE_PATH))
    throw new Problem(400, "Bad Request", `${GATE_TOKEN} is for ${GATE_PATH}{policy} alone.`);
}

/** The router ignores slashes at the end of a path. A path of the gate ends as the visitor's does. */
function refuseTrailingSlash({ url }: IRequest): void {
  const { pathname } = new URL(url);
  if (pathname.endsWith("/") && !pathname.startsWith(GATE_PATH)) notFound();
}

function notFound(): never {
  throw new Problem(404, "Not Found", "No call has this path. /openapi.json lists all calls.");
}

function methodNotAllowed(method: string, methods: readonly Route["0"][]): never {
  const allow = methods.map((method) => (method === "get" ? "GET, HEAD" : method.toUpperCase())).join(", ");
  throw new Problem(405, "Method Not Allowed", `This path does not take ${method}. Use ${allow}.`, { Allow: allow });
}

function answerError(error: unknown): Response {
  return responseOf(errorReply(error));
}
