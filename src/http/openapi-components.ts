import * as z from "zod";
import { audit, keyState, overriddenKey, overrideList, stats } from "../request/admin-schema";
import { wholeNumber } from "../request/cost-schema";
import { overrideRequest } from "../request/override-schema";
import {
  batchRequest,
  batchResults,
  decisionBody,
  decisionRequest,
  inlineDecisionBody,
  inlineReleaseRequest,
  inlineRequest,
  inlineSettleRequest,
  policyList,
  problemBody,
  releaseBody,
  releaseRequest,
  settlementBody,
  settleRequest,
} from "../request/schema";
import { KEY_SCHEMA } from "../request/subject";

/** Parts that the calls of the OpenAPI document share: schemas, headers and problems. */

export type Json = Readonly<Record<string, unknown>>;

const quotaExceeded = {
  type: z.literal("https://iana.org/assignments/http-problem-types#quota-exceeded"),
  title: z.string(),
  status: z.literal(429),
  detail: z.string(),
  "violated-policies": z
    .array(z.string())
    .describe(
      "The limits that the cost does not fit, named as in the headers. A counter that holds a million events fits no cost: then the limit with its longest window is one of them.",
    ),
};
const denied = decisionBody.extend(quotaExceeded).describe("A denied decision, as a problem.");
const inlineDenied = inlineDecisionBody.extend(quotaExceeded).describe("A denied decision, as a problem.");

const passed = z
  .object({ allowed: z.literal(true), retry_after_seconds: z.null() })
  .describe("What a proxy is told of a request that passes.");
const refused = z
  .object({
    ...quotaExceeded,
    status: z.union([z.literal(429), z.literal(403)]),
    allowed: z.literal(false),
    retry_after_seconds: wholeNumber().min(1),
  })
  .describe("What a visitor is told of a denial: no key, and no standing of a limit.");

const SCHEMAS = {
  GatePassed: passed,
  GateDenied: refused,
  DecisionRequest: decisionRequest,
  Decision: decisionBody,
  Denied: denied,
  InlineDecision: inlineDecisionBody,
  InlineDenied: inlineDenied,
  SettleRequest: settleRequest,
  InlineDecisionRequest: inlineRequest,
  InlineSettleRequest: inlineSettleRequest,
  Settlement: settlementBody,
  ReleaseRequest: releaseRequest,
  InlineReleaseRequest: inlineReleaseRequest,
  Release: releaseBody,
  BatchRequest: batchRequest,
  BatchResults: batchResults,
  PolicyList: policyList,
  KeyState: keyState,
  OverrideRequest: overrideRequest,
  OverriddenKey: overriddenKey,
  OverrideList: overrideList,
  Audit: audit,
  Stats: stats,
  Problem: problemBody,
};

export const KEY: Json = {
  name: "key",
  in: "path",
  required: true,
  description:
    '`<attribute>:<value>` in its normal form, percent-encoded. The 400 for a key in another spelling links to it: `Link`, `rel="canonical"`.',
  schema: { type: "string", ...KEY_SCHEMA, examples: ["user:u_1", "ip:2001:db8:1:2::/64"] },
};

const INTEGER_HEADER = { required: true, schema: { type: "integer", minimum: 1 } };
export const RETRY_AFTER = { ...INTEGER_HEADER, description: "Seconds until a retry makes sense." };
export const RATE_LIMIT = {
  RateLimit: {
    required: false,
    description:
      "For each limit of a live layer: `r`, what remains, and `t`, the seconds until some of it comes back (draft-ietf-httpapi-ratelimit-headers-10). Left out when no layer is live and when the decision is degraded.",
    schema: { type: "string", examples: ['"caller/60s";r=4;t=60'] },
  },
  "RateLimit-Policy": {
    required: false,
    description: "For each limit: `q`, the quota, and `w`, its window in seconds. `qu` marks a concurrent limit.",
    schema: { type: "string", examples: ['"caller/60s";q=5;w=60'] },
  },
};

const PROBLEMS: Record<number, string> = {
  400: "Malformed: not JSON, or a field is missing, unknown or invalid.",
  401: "The token is missing, not in force, or has ended.",
  403: "The role of the token does not permit the call, the token may not use the policy, or inline limits or the gate are switched off.",
  404: "No such policy, no such decision, or the service does not count, or record orders.",
  408: "The body did not arrive in time.",
  413: "The body is too large.",
  415: "The body is not `application/json`.",
  422: "The cost is above a limit of the policy and can never be admitted, or the idempotency key was used with another cost or policy.",
  429: "Too many sign-ins from this address failed. A token in force never gets this.",
  500: "The service failed. Its log has the details.",
  503: "The configuration is wrong, no tokens are configured, or the counters or the audit can't be reached.",
};

/** The problems of a call. A failed sign-in is a 401, or a 429 once there were too many. */
export function problems(...statuses: number[]): Json {
  const withSlowed = statuses.includes(401) ? [...statuses, 429] : statuses;
  return Object.fromEntries(
    withSlowed.map((status) => [
      status,
      {
        description: PROBLEMS[status],
        ...((status === 503 || status === 429) && { headers: { "Retry-After": RETRY_AFTER } }),
        ...(status === 401 && { headers: { "WWW-Authenticate": { required: true, schema: { const: "Bearer" } } } }),
        content: content("Problem", "application/problem+json"),
      },
    ]),
  );
}

export function requestBody(schema: keyof typeof SCHEMAS): Json {
  return { required: true, content: content(schema) };
}

type SchemaName = keyof typeof SCHEMAS;

/** A body of one of these schemas. */
export function content(schemas: SchemaName | readonly SchemaName[], type = "application/json"): Json {
  const refs = [schemas].flat().map((schema) => ({ $ref: `#/components/schemas/${schema}` }));
  return { [type]: { schema: refs.length === 1 ? refs[0] : { anyOf: refs } } };
}

export function schemas(): Json {
  return Object.fromEntries(
    Object.entries(SCHEMAS).map(([name, schema]) => {
      // As input: in a response further fields may come, and clients must accept them.
      const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input" });
      return [name, rest];
    }),
  );
}
