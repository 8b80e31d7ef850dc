import { type IRequest, Router } from "itty-router";
import type { Config } from "../config/config";
import { bodyOf, inlineBodyOf } from "../edge/decision";
import { readInlineCheck, readInlineConsume, readInlineKey, readInlineRelease, readInlineSettle } from "../edge/inline";
import { readOverride } from "../edge/override";
import {
  type Asked,
  type AskedById,
  type AskedToConsume,
  type Idempotency,
  readCheck,
  readConsume,
  readRelease,
  readSettle,
} from "../edge/request";
import { type Env, type Service, serviceOf } from "../edge/service";
import type { Role } from "../edge/tokens";
import { authorize } from "./auth";
import { batch } from "./batch";
import { idempotencyOf, LONGEST_BATCH_BYTES, readJson } from "./body";
import { consoleFile } from "./console";
import { stats } from "./counts";
import { type BodyOf, consumeReply, decisionReply, releaseReply, settleReply } from "./decision-reply";
import { decodedKey, eventsOf, keyOf } from "./key-request";
import { metrics } from "./metrics";
import { openApi } from "./openapi";
import { errorReply, Problem } from "./problem";
import { json, responseOf } from "./reply";

type Handler<E> = (request: IRequest, env: E, context: Context) => Response | Promise<Response>;
type Call = (request: IRequest, service: Service, context: Context) => Response | Promise<Response>;

/** What of a request outlives its answer. */
export type Context = Pick<ExecutionContext, "waitUntil">;

export type Route<E = Env> = readonly [method: "get" | "post" | "put" | "delete", path: string, handler: Handler<E>];

export const ROUTES: readonly Route[] = [
  ["get", "/healthz", health],
  ["get", "/openapi.json", () => json(openApi())],
  ["get", "/console", consoleFile],
  ["get", "/console/:file", consoleFile],
  ["post", "/v1/consume", withToken("caller", consume(readConsume, bodyOf))],
  ["post", "/v1/check", withToken("caller", check(readCheck, bodyOf))],
  ["post", "/v1/settle", withToken("caller", settle(readSettle))],
  ["post", "/v1/release", withToken("caller", release(readRelease))],
  ["post", "/v1/batch", withToken("caller", runBatch)],
  ["post", "/v1/inline/consume", withToken("caller", ifInline(consume(readInlineConsume, inlineBodyOf)))],
  ["post", "/v1/inline/check", withToken("caller", ifInline(check(readInlineCheck, inlineBodyOf)))],
  ["post", "/v1/inline/settle", withToken("caller", ifInline(settle(readInlineSettle)))],
  ["post", "/v1/inline/release", withToken("caller", ifInline(release(readInlineRelease)))],
  ["delete", "/v1/inline/keys/:key", withToken("caller", ifInline(forgetInlineKey))],
  ["get", "/v1/policies", withToken("caller", (_, { limiter }) => json(limiter.policies()))],
  ["get", "/v1/keys/:key", withToken("admin", inspectKey)],
  ["delete", "/v1/keys/:key", withToken("admin", forgetKey)],
  ["put", "/v1/keys/:key/override", withToken("admin", setOverride)],
  ["delete", "/v1/keys/:key/override", withToken("admin", liftOverride)],
  ["get", "/v1/stats", withToken("admin", async (request, service) => json(await stats(request, service)))],
  ["get", "/metrics", withToken("admin", (_, service) => metrics(service))],
];

function health(_: IRequest, env: Env): Response {
  serviceOf(env);
  return json({ status: "ok" });
}

function consume(
  read: (body: unknown, idempotency: Idempotency, config: Config) => AskedToConsume,
  bodyOf: BodyOf,
): Call {
  return async (request, { config, limiter }, context) => {
    const asked = read(await readJson(request), idempotencyOf(request), config);
    return responseOf(consumeReply(await limiter.consume(asked, (work) => context.waitUntil(work)), bodyOf));
  };
}

function check(read: (body: unknown, config: Config) => Asked, bodyOf: BodyOf): Call {
  return async (request, { config, limiter }) =>
    responseOf(decisionReply(await limiter.check(read(await readJson(request), config)), bodyOf));
}

function settle(read: (body: unknown, config: Config) => AskedById): Call {
  return async (request, { config, limiter }) =>
    responseOf(settleReply(await limiter.settle(read(await readJson(request), config))));
}

function release(read: (body: unknown, config: Config) => AskedById): Call {
  return async (request, { config, limiter }) =>
    responseOf(releaseReply(await limiter.release(read(await readJson(request), config))));
}

async function runBatch(request: IRequest, service: Service, context: Context): Promise<Response> {
  return json(await batch(await readJson(request, LONGEST_BATCH_BYTES), service, (work) => context.waitUntil(work)));
}

/** Whoever names limits can also fill the storage for as long as the longest of them, so that is to be switched on. */
function ifInline(call: Call): Call {
  return (request, service, context) => {
    if (service.config.inline) return call(request, service, context);
    throw new Problem(403, "Forbidden", "Limits named by callers are off: the service needs RATE_LIMIT_INLINE=1.");
  };
}

async function inspectKey(request: IRequest, { config, keys }: Service): Promise<Response> {
  return json(await keys.inspect(keyOf(request, config), eventsOf(request)));
}

async function forgetInlineKey(request: IRequest, { keys }: Service): Promise<Response> {
  await keys.forget(readInlineKey(decodedKey(request)));
  return new Response(null, { status: 204 });
}

async function forgetKey(request: IRequest, { config, keys }: Service): Promise<Response> {
  await keys.forget(keyOf(request, config));
  return new Response(null, { status: 204 });
}

async function setOverride(request: IRequest, { config, keys, now }: Service): Promise<Response> {
  const body = await readJson(request);
  const key = keyOf(request, config);
  return json(await keys.setOverride(key, readOverride(body, key, config, now())));
}

async function liftOverride(request: IRequest, { config, keys }: Service): Promise<Response> {
  await keys.liftOverride(keyOf(request, config));
  return new Response(null, { status: 204 });
}

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
      // A Host header can make it a URL that is none.
      if (!isUrl(url)) throw new Problem(400, "Bad Request", "The Host header is none.");
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

/** A call that takes a token, which is asked for before anything else about the request is looked at. */
function withToken(role: Role, call: Call): Handler<Env> {
  return (request, env, context) => {
    const service = serviceOf(env);
    authorize(request, service.tokens, role);
    return call(request, service, context);
  };
}

/** The router takes any number of slashes at the end of a path for none. */
function refuseTrailingSlash({ url }: IRequest): void {
  if (pathOf(url).endsWith("/")) notFound();
}

function notFound(): never {
  throw new Problem(404, "Not Found", "There is nothing at this path: /openapi.json lists what there is.");
}

function methodNotAllowed(method: string, methods: readonly Route["0"][]): never {
  const allow = methods.map((method) => (method === "get" ? "GET, HEAD" : method.toUpperCase())).join(", ");
  throw new Problem(405, "Method Not Allowed", `${method} is not for this path: ${allow}.`, { Allow: allow });
}

function answerError(error: unknown): Response {
  return responseOf(errorReply(error));
}
