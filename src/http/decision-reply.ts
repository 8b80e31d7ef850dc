import { type BareItem, type Item, serializeItem, serializeList } from "structured-headers";
import type { Limit } from "../core/limit";
import { type Layer, layersIn, limitName, type Policy } from "../core/policy";
import {
  type Changed,
  ceilSeconds,
  type Decided,
  type DecidedLimit,
  liveLimits,
  releaseOf,
  remaining,
  retryAfterSeconds,
  settlementOf,
  violated,
} from "../edge/decision";
import type { Decision } from "../edge/schema";
import { ok, type Reply } from "./reply";

export type BodyOf = (decided: Decided) => Decision;

/** What a check answers, and a consume that was admitted. */
export function decisionReply(decided: Decided, bodyOf: BodyOf): Reply {
  return ok(bodyOf(decided), decided.degraded ? {} : rateLimitHeaders(decided));
}

/** What a consume answers: a backend can pass a 429 on to its own client as it is. */
export function consumeReply(decided: Decided, bodyOf: BodyOf): Reply {
  if (decided.allowed) return decisionReply(decided, bodyOf);
  const retryAfter = retryAfterSeconds(decided);
  const names = violated(decided).map(({ layer, limit }) => limitName(layer, limit));
  const body = {
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Quota Exceeded",
    status: 429,
    detail: `A limit is reached. This cost fits again in ${retryAfter} s.`,
    "violated-policies": names,
    ...bodyOf(decided),
  };
  return { status: 429, headers: { "Retry-After": String(retryAfter), ...rateLimitHeaders(decided) }, body };
}

export function settleReply(settled: Changed): Reply {
  return ok(settlementOf(settled), rateLimitHeaders(settled));
}

export function releaseReply(released: Changed): Reply {
  return ok(releaseOf(released), rateLimitHeaders(released));
}

/**
 * draft-ietf-httpapi-ratelimit-headers-10: `t` is the wait until some quota comes back, left out when all is there. Of
 * live layers alone: a client must not slow down for what nobody would deny it.
 */
function rateLimitHeaders({ policy, limits }: Pick<Decided, "policy" | "limits">): Record<string, string> {
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

/** A limit's name as a structured field has it: the same for every answer of its layer, so made once. */
function nameItem(layer: string, limit: Limit): string {
  const known = nameItems.get(limit);
  if (known !== undefined) return known;
  const item = serializeItem([limitName(layer, limit), new Map()]);
  nameItems.set(limit, item);
  return item;
}

const policyHeaders = new WeakMap<Policy, string>();

/** The same for every answer of a policy whose limits are not overridden, so made once. */
function policyHeader(policy: Policy, live: readonly DecidedLimit[]): string {
  const overridden = live.filter(({ override }) => override?.limits);
  if (overridden.length > 0)
    return policyHeaderOf(
      layersIn("live", policy).map(({ name, limits }) => {
        const inForce = overridden.find(({ layer }) => layer === name)?.override?.limits;
        return { name, limits: inForce ?? limits };
      }),
    );
  const known = policyHeaders.get(policy);
  if (known !== undefined) return known;
  const header = policyHeaderOf(layersIn("live", policy));
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
