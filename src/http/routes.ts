import type { IRequest } from "itty-router";
import { bodyOf, inlineBodyOf } from "../limiter/decision-body";
import {
  INLINE,
  readInlineCheck,
  readInlineConsume,
  readInlineKey,
  readInlineRelease,
  readInlineSettle,
} from "../request/inline";
import { readOverrideRequest } from "../request/override-request";
import {
  type Idempotency,
  type ReadConfig,
  readCheck,
  readConfigOf,
  readConsume,
  readRelease,
  readSettle,
  type ValidChange,
  type ValidConsume,
  type ValidRequest,
} from "../request/read";
import { mayUse, type Role, type Token } from "../request/tokens";
import { type Env, type Service, serviceOf } from "../service";
import type { Context, Handler, Route } from "./app";
import { auditedOrders, listOverrides } from "./audit";
import { authorize, bearerOf } from "./auth";
import { batch } from "./batch";
import { idempotencyOf, LONGEST_BATCH_BYTES, readJson } from "./body";
import { consoleFile } from "./console";
import { type BodyOf, consumeReply, decisionReply, releaseReply, settleReply } from "./decision-reply";
import { gate } from "./gate";
import { decodedKey, inspectionOf, keyOf } from "./key-request";
import { metrics } from "./metrics";
import { openApi } from "./openapi";
import { Problem } from "./problem";
import { json, responseOf } from "./reply";
import { openSession } from "./session";
import { stats } from "./stats";

/** A call behind a token, which says who calls. */
type Endpoint = (request: IRequest, service: Service, context: Context, token: Token) => Response | Promise<Response>;

/** All calls of the service. */
export const ROUTES: readonly Route[] = [
  ["get", "/healthz", health],
  ["get", "/openapi.json", () => json(openApi())],
  ["get", "/console", consoleFile],
  ["get", "/console/:file", consoleFile],
  ["post", "/v1/consume", withToken("caller", consume(readConsume, bodyOf))],
  ["post", "/v1/check", withToken("caller", check(readCheck, bodyOf))],
  ["post", "/v1/settle", withToken("caller", settle(readSettle))],
  ["post", "/v1/release", withToken("caller", release(readRelease))],
  ["post", "/v1/batch", withToken("caller", runBatch, 0)],
  ["post", "/v1/inline/consume", withToken("caller", ifInline(consume(readInlineConsume, inlineBodyOf)))],
  ["post", "/v1/inline/check", withToken("caller", ifInline(check(readInlineCheck, inlineBodyOf)))],
  ["post", "/v1/inline/settle", withToken("caller", ifInline(settle(readInlineSettle)))],
  ["post", "/v1/inline/release", withToken("caller", ifInline(release(readInlineRelease)))],
  ["delete", "/v1/inline/keys/:key", withToken("caller", ifInline(forgetInlineKey))],
  ["get", "/v1/session", openSession],
  ["all", "/v1/gate/:policy/*", gate],
  ["get", "/v1/policies", withToken("caller", policies)],
  ["get", "/v1/keys/:key", withToken("admin", inspectKey)],
  ["delete", "/v1/keys/:key", withToken("admin", resetKey)],
  ["put", "/v1/keys/:key/override", withToken("admin", setOverride)],
  ["delete", "/v1/keys/:key/override", withToken("admin", liftOverride)],
  ["get", "/v1/overrides", withToken("admin", listOverrides)],
  ["get", "/v1/audit", withToken("admin", auditedOrders)],
  ["get", "/v1/stats", withToken("admin", async (request, service) => json(await stats(request, service)))],
  ["get", "/metrics", withToken("metrics-only", (_, service) => metrics(service))],
];

function health(_: IRequest, env: Env): Response {
  serviceOf(env);
  return json({ status: "ok" });
}

function consume(
  read: (body: unknown, idempotency: Idempotency, config: ReadConfig) => ValidConsume,
  bodyOf: BodyOf,
): Endpoint {
  return async (request, { config, limiter }, context, token) => {
    const valid = read(await readJson(request), idempotencyOf(request), readConfigOf(config, token));
    return responseOf(consumeReply(await limiter.consume(valid, (work) => context.waitUntil(work)), bodyOf));
  };
}

function check(read: (body: unknown, config: ReadConfig) => ValidRequest, bodyOf: BodyOf): Endpoint {
  return async (request, { config, limiter }, _, token) =>
    responseOf(decisionReply(await limiter.check(read(await readJson(request), readConfigOf(config, token))), bodyOf));
}

function settle(read: (body: unknown, config: ReadConfig) => ValidChange): Endpoint {
  return async (request, { config, limiter }, _, token) =>
    responseOf(settleReply(await limiter.settle(read(await readJson(request), readConfigOf(config, token)))));
}

function release(read: (body: unknown, config: ReadConfig) => ValidChange): Endpoint {
  return async (request, { config, limiter }, _, token) =>
    responseOf(releaseReply(await limiter.release(read(await readJson(request), readConfigOf(config, token)))));
}

async function runBatch(request: IRequest, service: Service, context: Context, token: Token): Promise<Response> {
  const body = await readJson(request, LONGEST_BATCH_BYTES);
  return json(await batch(body, service, (work) => context.waitUntil(work), token));
}

/** Inline limits are off by default: a caller that names limits can fill the storage for as long as it likes. */
function ifInline(call: Endpoint): Endpoint {
  return (request, service, context, token) => {
    if (!service.config.inline)
      throw new Problem(403, "Forbidden", "Inline limits are off. Set RATE_LIMIT_INLINE=1 to switch them on.");
    if (!mayUse(token, INLINE)) throw new Problem(403, "Forbidden", "The token may not use inline limits.");
    return call(request, service, context, token);
  };
}

/** A caller sees the policies that its token may use. */
function policies(_: IRequest, { limiter }: Service, __: Context, token: Token): Response {
  return json({ policies: limiter.policies().policies.filter(({ name }) => mayUse(token, name)) });
}

async function inspectKey(request: IRequest, { config, keys }: Service): Promise<Response> {
  return json(await keys.inspect(keyOf(request, config), inspectionOf(request)));
}

/** Not recorded: callers forget inline keys of their own as they settle, many a second. */
async function forgetInlineKey(request: IRequest, { keys }: Service): Promise<Response> {
  await keys.forget(readInlineKey(decodedKey(request)));
  return new Response(null, { status: 204 });
}

async function resetKey(
  request: IRequest,
  { config, orders }: Service,
  _: Context,
  { name }: Token,
): Promise<Response> {
  await orders.reset(keyOf(request, config), name);
  return new Response(null, { status: 204 });
}

async function setOverride(
  request: IRequest,
  { config, orders, now }: Service,
  _: Context,
  { name }: Token,
): Promise<Response> {
  const body = await readJson(request);
  const key = keyOf(request, config);
  return json(await orders.setOverride(key, readOverrideRequest(body, key, config, now()), name));
}

async function liftOverride(
  request: IRequest,
  { config, orders }: Service,
  _: Context,
  { name }: Token,
): Promise<Response> {
  await orders.liftOverride(keyOf(request, config), name);
  return new Response(null, { status: 204 });
}

/**
 * Requires a token before anything else of the request is read, and counts the call as so many of the token's requests:
 * a batch counts its own.
 */
function withToken(role: Role, call: Endpoint, requests = 1): Handler<Env> {
  return async (request, env, context) => {
    const service = serviceOf(env);
    const { headers } = request;
    const token = await authorize(bearerOf(headers), headers, service, role);
    if (requests > 0) service.counts?.countRequests(token.name, requests);
    return call(request, service, context, token);
  };
}
