import { type IRequest, Router } from "itty-router";
import { ConfigError } from "../config/mistake";
import type { WaitUntil } from "../edge/fan-out";
import { logFault } from "../edge/log";
import { Refusal } from "../edge/refusal";
import { type Env, type Service, serviceOf } from "../edge/service";
import type { Role } from "../edge/tokens";
import { authorize } from "./auth";
import { idempotencyKeyOf, readJson } from "./body";
import { consumeResponse, decisionResponse, settleResponse } from "./decision-response";
import { json } from "./json";
import { eventsOf, keyOf } from "./key-request";
import { openApi } from "./openapi";
import { Problem, problemOf } from "./problem";

type Handler = (request: IRequest, env: Env, context: Context) => Response | Promise<Response>;
type Call = (request: IRequest, service: Service, context: Context) => Response | Promise<Response>;

/** What of a request outlives its answer. */
export type Context = Pick<ExecutionContext, "waitUntil">;

const ROUTES: readonly (readonly [method: "get" | "post" | "delete", path: string, handler: Handler])[] = [
  ["get", "/healthz", health],
  ["get", "/openapi.json", () => json(openApi())],
  ["post", "/v1/consume", withToken("caller", consume)],
  ["post", "/v1/check", withToken("caller", check)],
  ["post", "/v1/settle", withToken("caller", settle)],
  ["get", "/v1/policies", withToken("caller", (_, { limiter }) => json(limiter.policies()))],
  ["get", "/v1/keys/:key", withToken("admin", inspectKey)],
  ["delete", "/v1/keys/:key", withToken("admin", forgetKey)],
];

async function health(_: IRequest, env: Env): Promise<Response> {
  await serviceOf(env);
  return json({ status: "ok" });
}

async function consume(request: IRequest, { limiter }: Service, context: Context): Promise<Response> {
  const waitUntil: WaitUntil = (work) => context.waitUntil(work);
  return consumeResponse(await limiter.consume(await readJson(request), idempotencyKeyOf(request), waitUntil));
}

async function check(request: IRequest, { limiter }: Service): Promise<Response> {
  return decisionResponse(await limiter.check(await readJson(request)));
}

async function settle(request: IRequest, { limiter }: Service): Promise<Response> {
  return settleResponse(await limiter.settle(await readJson(request)));
}

async function inspectKey(request: IRequest, { config, limiter }: Service): Promise<Response> {
  return json(await limiter.inspect(keyOf(request, config), eventsOf(request)));
}

async function forgetKey(request: IRequest, { config, limiter }: Service): Promise<Response> {
  await limiter.forget(keyOf(request, config));
  return new Response(null, { status: 204 });
}

const router = makeRouter();

/** Answers any HTTP request; never throws. */
export async function handle(request: Request, env: Env, context: Context): Promise<Response> {
  try {
    if (request.method !== "HEAD") return await router.fetch(request, env, context);
    // Without the body that it may have, which a GET must not.
    const get = new Request(request.url, { method: "GET", headers: request.headers });
    return new Response(null, await router.fetch(get, env, context));
  } catch (error) {
    // The router reads the URL before it catches anything, and a Host header can make it one that is none.
    return answerError(isUrl(request.url) ? error : new Problem(400, "Bad Request", "The Host header is none."));
  }
}

function isUrl(text: string): boolean {
  try {
    return new URL(text) !== undefined;
  } catch {
    return false;
  }
}

function makeRouter() {
  const router = Router<IRequest, [Env, Context]>({ before: [refuseTrailingSlash], catch: answerError });
  for (const [method, path, handler] of ROUTES) router[method](path, handler);
  for (const path of new Set(ROUTES.map(([, path]) => path))) router.all(path, methodNotAllowed);
  router.all("*", notFound);
  return router;
}

/** A call that takes a token, which is asked for before anything else about the request is looked at. */
function withToken(role: Role, call: Call): Handler {
  return async (request, env, context) => {
    const service = await serviceOf(env);
    await authorize(request, service.tokens, role);
    return call(request, service, context);
  };
}

/** The router takes any number of slashes at the end of a path for none. */
function refuseTrailingSlash({ url }: IRequest): void {
  if (new URL(url).pathname.endsWith("/")) notFound();
}

function notFound(): never {
  throw new Problem(404, "Not Found", "There is nothing at this path: /openapi.json lists what there is.");
}

function methodNotAllowed({ method, route }: IRequest): never {
  const methods = ROUTES.filter(([, path]) => path === route).map(([method]) => method);
  const allow = methods.map((method) => (method === "get" ? "GET, HEAD" : method.toUpperCase())).join(", ");
  throw new Problem(405, "Method Not Allowed", `${method} is not for this path: ${allow}.`, { Allow: allow });
}

function answerError(error: unknown): Response {
  if (error instanceof Problem) return error.toResponse();
  if (error instanceof Refusal) return problemOf(error).toResponse();
  if (error instanceof ConfigError)
    return new Problem(503, "Service Unavailable", "The service is not configured; its log says why.", {
      "Retry-After": "60",
    }).toResponse();
  logFault("a request failed", error);
  return new Problem(500, "Internal Server Error", "The service failed; its log says how.").toResponse();
}
