import { type BareItem, type Item, serializeItem, serializeList } from "structured-headers";
import type { Limit } from "../core/limit";
import { type Layer, limitName, type Policy } from "../core/policy";
import { MAX_EVENTS } from "../core/sliding-window";
import { remaining } from "../core/standing";
import {
  type ChangeDecision,
  ceilSeconds,
  type Decision,
  type DecisionLimit,
  liveLimits,
  retryAfterSeconds,
  violatedLimits,
} from "../limiter/decision";
import { releaseBodyOf, settlementBodyOf } from "../limiter/decision-body";
import { ok, type Reply } from "./reply";

const MOST_EVENTS = MAX_EVENTS.toLocaleString("en-US");

export type BodyOf = (decision: Decision) => object;

/** The reply to a check or to an admitted consume. */
export function decisionReply(decision: Decision, bodyOf: BodyOf): Reply {
  return ok(bodyOf(decision), () => (decision.degraded ? {} : rateLimitHeaders(decision)));
}

/** The reply to a consume. A backend can pass a 429 on to its own client unchanged. */
export function consumeReply(decision: Decision, bodyOf: BodyOf, status: 429 | 403 = 429): Reply {
  if (decision.allowed) return decisionReply(decision, bodyOf);
  const retryAfter = retryAfterSeconds(decision);
  const names = violatedLimits(decision).map(({ layer, limit }) => limitName(layer, limit));
  const body = {
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Quota Exceeded",
    status,
    detail: `${reasonOf(decision)} This cost fits again in ${retryAfter} s.`,
    "violated-policies": names,
    ...bodyOf(decision),
  };
  const headers = () => ({ "Retry-After": String(retryAfter), ...rateLimitHeaders(decision) });
  return { status, body, headers };
}

function reasonOf(decision: Decision): string {
  const full = violatedLimits(decision).find(({ standing: { fullForMs = 0 } }) => fullForMs > 0);
  if (!full) return "A limit is reached.";
  return `The counter of layer "${full.layer}" holds ${MOST_EVENTS} events, the most that a counter can.`;
}

export function settleReply(settled: ChangeDecision): Reply {
  return ok(settlementBodyOf(settled), () => rateLimitHeaders(settled));
}

export function releaseReply(released: ChangeDecision): Reply {
  return ok(releaseBodyOf(released), () => rateLimitHeaders(released));
}

/**
 * The headers of draft-ietf-httpapi-ratelimit-headers-10. `t` is the wait until some quota comes back, left out if all
 * of it is there. Layers in shadow are left out: a client must not slow down for a limit that denies nothing.
 */
function rateLimitHeaders({ policy, limits }: Pick<Decision, "policy" | "limits">): Record<string, string> {
  const live = liveLimits({ limits });
  const header = policyHeader(policy, live);
  if (header === "") return {};
  return {
    "RateLimit-Policy": header,
    RateLimit: live
      .map(({ layer, limit, standing: { used, freesInMs } }) => {
        const wait = used > 0 ? `;t=${ceilSeconds(freesInMs)}` : "";
        return `${nameItem(layer, limit)};r=${remaining(limit.max, used)}${wait}`;
      })
      .join(", "),
  };
}

const nameItems = new WeakMap<Limit, string>();

/** The name of a limit as a structured field. Cached, since it is the same in every reply of the layer. */
function nameItem(layer: string, limit: Limit): string {
  const cached = nameItems.get(limit);
  if (cached !== undefined) return cached;
  const item = serializeItem([limitName(layer, limit), new Map()]);
  nameItems.set(limit, item);
  return item;
}

const policyHeaders = new WeakMap<Policy, string>();

/** RateLimit-Policy. Cached unless a limit is overridden: it is the same in every other reply of the policy. */
function policyHeader(policy: Policy, live: readonly DecisionLimit[]): string {
  const overridden = live.filter(({ override }) => override?.limits);
  if (overridden.length > 0)
    return policyHeaderOf(
      policy.live.map(({ name, limits }) => {
        const inForce = overridden.find(({ layer }) => layer === name)?.override?.limits;
        return { name, limits: inForce ?? limits };
      }),
    );
  const cached = policyHeaders.get(policy);
  if (cached !== undefined) return cached;
  const header = policyHeaderOf(policy.live);
  policyHeaders.set(policy, header);
  return header;
}

function policyHeaderOf(layers: readonly Pick<Layer, "name" | "limits">[]): string {
  return serializeList(
    layers.flatMap(({ name, limits }) =>
      limits.map((limit): Item => {
        const parameters = new Map<string, BareItem>([["q", limit.max]]);
        if (limit.kind) parameters.set("qu", "concurrent-requests");
        parameters.set("w", limit.windowMs / 1_000);
        return [limitName(name, limit), parameters];
      }),
    ),
  );
}
