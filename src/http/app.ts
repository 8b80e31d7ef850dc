import { type IRequest, Router } from "itty-router";
import type { Env } from "../edge/service";
import { errorReply, Problem } from "./problem";
import { responseOf } from "./reply";

export type Handler<E> = (request: IRequest, env: E, context: Context) => Response | Promise<Response>;

/** What of a request outlives its answer. */
export type Context = Pick<ExecutionContext, "waitUntil">;

export type Route<E = Env> = readonly [method: "get" | "post" | "put" | "delete", path: string, handler: Handler<E>];

/** What answers any HTTP request by these routes, and never throws. */
export function appOf<E>(routes: readonly Route<E>[]) {
  const router = routerOf(routes);
  // What the router does to find one of these, a URL and its query read for each request, costs as much as a decision.
  const constant = new Map(
    routes
      .filter(([, path]) => !path.includes(":"))
      .map(([method, path, handler]) => [`${method.toUpperCase()} ${path}`, handler]),
  );
  return async (request: Request, env: E, context: Context): Promise<Response> => {
    const { method, url } = request;
    try {
      // An invalid Host header makes an invalid URL.
      if (!isUrl(url)) throw new Problem(400, "Bad Request", "The Host header is invalid.");
      const handler = constant.get(`${method} ${pathOf(url)}`);
      if (handler) return await handler(request as IRequest, env, context);
      if (method !== "HEAD") return await router.fetch(request, env, context);
      // Without the body that it may have, which a GET must not.
      const get = new Request(url, { method: "GET", headers: request.headers });
      return new Response(null, await router.fetch(get, env, context));
    } catch (error) {
      return answerError(error);
    }
  };
}

function isUrl(text: string): boolean {
  try {
    return new URL(text) !== undefined;
  } catch {
    return false;
  }
}

function pathOf(url: string): string {
  const query = url.indexOf("?");
  return url.slice(url.indexOf("/", url.indexOf("//") + 2), query < 0 ? undefined : query);
}

function routerOf<E>(routes: readonly Route<E>[]) {
  const router = Router<IRequest, [E, Context]>({ before: [refuseTrailingSlash], catch: answerError });
  for (const [method, path, handler] of routes) router[method](path, handler);
  for (const path of new Set(routes.map(([, path]) => path))) {
    const methods = routes.filter(([, other]) => other === path).map(([method]) => method);
    router.all(path, ({ method }) => methodNotAllowed(method, methods));
  }
  router.all("*", notFound);
  return router;
}

/** The router takes any number of slashes at the end of a path for none. */
function refuseTrailingSlash({ url }: IRequest): void {
  if (pathOf(url).endsWith("/")) notFound();
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
