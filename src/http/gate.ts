import type { IRequest } from "itty-router";
import type { Gate } from "../config/config";
import { type Decision, retryAfterSeconds } from "../limiter/decision";
import { readConfigOf, readConsume } from "../request/read";
import { type InvalidField, invalid } from "../request/refusal";
import { type Env, serviceOf } from "../service";
import type { Context } from "./app";
import { authorize, GATE_TOKEN } from "./auth";
import { consumeReply } from "./decision-reply";
import { Problem } from "./problem";
import { responseOf } from "./reply";

const MISSING = `The request has no token. Have the proxy set ${GATE_TOKEN}.`;

/**
 * Decides a request that a visitor sent to a proxy. What the proxy passes on of it belongs to the visitor: method, body,
 * query, the rest of the path, an Idempotency-Key, an Upgrade. None of it is read. The proxy's own are the token, the policy
 * and the headers that `LIMITER_GATE` names.
 */
export async function gate(request: IRequest, env: Env, context: Context): Promise<Response> {
  const service = serviceOf(env);
  const { config, limiter, counts } = service;
  const { headers } = request;
  const token = await authorize(headers.get(GATE_TOKEN) ?? undefined, headers, service, "caller", MISSING);
  counts?.countRequests(token.name, 1);
  if (!config.gate)
    throw new Problem(403, "Forbidden", "The gate is off. Set LIMITER_GATE, such as hops=1, to switch it on.");
  const input = { policy: request.params.policy, subject: subjectOf(headers, config.gate) };
  const valid = readConsume(input, {}, readConfigOf(config, token));
  const decision = await limiter.consume(valid, (work) => context.waitUntil(work));
  return responseOf(consumeReply(decision, visitorsBodyOf, deniedStatusOf(request.url)));
}

/** Proxies pass the body of a denial on to the visitor, who is shown no key. */
function visitorsBodyOf(decision: Decision) {
  return { allowed: decision.allowed, retry_after_seconds: retryAfterSeconds(decision) };
}

/**
 * 403 with `?denied=403`, for proxies that know no other refusal. Anything else in the query may be the visitor's, as may this:
 * a visitor who sends it is denied by another status.
 */
function deniedStatusOf(url: string): 429 | 403 {
  return new URL(url).searchParams.get("denied") === "403" ? 403 : 429;
}

/** @throws Refusal `invalid` if the headers are not those of the proxies that `LIMITER_GATE` describes. */
function subjectOf(headers: Headers, { hops, headers: names }: Gate): Record<string, string> {
  const subject: Record<string, string> = {};
  const mistakes: InvalidField[] = [];
  if (hops !== undefined) {
    const entries = (headers.get("X-Forwarded-For") ?? "").split(",");
    const entry = entries.at(-hops)?.trim() ?? "";
    if (entry === "")
      mistakes.push({ pointer: "/subject/ip", detail: `X-Forwarded-For has no entry ${hops} from its end (hops)` });
    subject.ip = addressOf(entry);
  }
  for (const [attribute, name] of names) {
    const value = headers.get(name);
    if (value === null) continue;
    const detail = mistakeIn(value);
    if (detail !== undefined) mistakes.push({ pointer: `/subject/${attribute}`, detail: `${name} ${detail}` });
    subject[attribute] = value;
  }
  if (mistakes.length > 0) throw invalid(mistakes);
  return subject;
}

function mistakeIn(value: string): string | undefined {
  // A header that is sent twice: the proxy adds its own, and leaves the visitor's in place.
  if (value.includes(",")) return "is sent twice, or has a comma";
  // The runtime's replacement for what is not UTF-8: two values would become one.
  return value.includes("\ufffd") ? "is not UTF-8" : undefined;
}

/** Some proxies write the visitor's port: `203.0.113.7:49152`, `[2001:db8::7]:49152`. */
function addressOf(entry: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(entry)?.[1] ?? entry.replace(/^([\d.]+):\d+$/, "$1");
}
