import { ID_HEADER_PATTERN } from "../request/schema";
import { TEXT_SCHEMA } from "../request/subject";
import { content, type Json, problems, RATE_LIMIT, RETRY_AFTER, requestBody } from "./openapi-components";

/** By a policy, or by limits that the request names. */
type Kind = "" | "Inline";

/** The calls that decide, as the OpenAPI document has them. */
export function decisionPaths(): Json {
  return {
    "/v1/consume": consumeCall("consume", "", [404]),
    "/v1/check": checkCall("check", "", [404]),
    "/v1/settle": changeCall("settle", "Settle", ""),
    "/v1/release": changeCall("release", "Release", ""),
    "/v1/batch": {
      post: {
        operationId: "batch",
        summary: "Several checks, consumes, settles and releases in one call, each decided by itself",
        requestBody: requestBody("BatchRequest"),
        responses: {
          200: {
            description: "One result per request, each with a status of its own.",
            content: content("BatchResults"),
          },
          ...problems(400, 401, 403, 408, 413, 415, 500, 503),
        },
      },
    },
    "/v1/gate/{policy}": gateCall(),
    "/v1/inline/consume": consumeCall("consumeInline", "Inline", []),
    "/v1/inline/check": checkCall("checkInline", "Inline", []),
    "/v1/inline/settle": changeCall("settleInline", "Settle", "Inline"),
    "/v1/inline/release": changeCall("releaseInline", "Release", "Inline"),
    "/v1/inline/keys/{key}": {
      parameters: [
        {
          name: "key",
          in: "path",
          required: true,
          description: "A key of inline limits, percent-encoded.",
          schema: { type: "string", ...TEXT_SCHEMA, examples: ["login/203.0.113.7"] },
        },
      ],
      delete: {
        operationId: "forgetInlineKey",
        summary: "Forget a key of inline limits",
        responses: {
          204: { description: "Forgotten, also when it was never seen." },
          ...problems(400, 401, 403, 500, 503),
        },
      },
    },
  };
}

/** Proxies send any method. One is described: the others are the same. */
function gateCall(): Json {
  const denied = {
    headers: { ...RATE_LIMIT, "Retry-After": RETRY_AFTER },
    content: content(["GateDenied", "Problem"], "application/problem+json"),
  };
  return {
    get: {
      operationId: "gate",
      summary: "Decide a visitor's request for a proxy, and record a cost of 1 if every limit admits it",
      description:
        "Takes any method, and any path after the policy. The subject is read from the headers that `LIMITER_GATE` names, and nothing else of the request is read.",
      security: [{ gate: [] }],
      parameters: [
        {
          name: "policy",
          in: "path",
          required: true,
          description: "The name of a policy.",
          schema: { type: "string", examples: ["chat"] },
        },
        {
          name: "denied",
          in: "query",
          description: "403: a denial has this status, for proxies that know no other. Anything else is ignored.",
          schema: { type: "string", examples: ["403"] },
        },
        {
          name: "X-Forwarded-For",
          in: "header",
          description: "The visitor's address and those of proxies. `hops` in `LIMITER_GATE` says which entry is read.",
          schema: { type: "string", examples: ["203.0.113.7"] },
        },
      ],
      responses: {
        ...problems(400, 401, 404, 500, 503),
        200: { description: "Allowed and recorded.", headers: RATE_LIMIT, content: content("GatePassed") },
        403: {
          description:
            "With `allowed`, denied, with the headers of the 429. Otherwise the role of the token does not permit the call, the token may not use the policy, or the gate is switched off.",
          content: denied.content,
        },
        429: {
          description: "Denied; nothing is recorded. Without `allowed`: too many sign-ins from this address failed.",
          ...denied,
        },
      },
    },
  };
}

function consumeCall(operationId: string, kind: Kind, more: number[]): Json {
  return {
    post: {
      operationId,
      summary: `Decide, and record the cost if every limit of every layer admits it${limitsOf(kind)}`,
      parameters: [
        {
          name: "Idempotency-Key",
          in: "header",
          description:
            "A consume that is sent again with the same key and subject is charged once. A string of structured fields, or unquoted.",
          schema: {
            type: "string",
            pattern: ID_HEADER_PATTERN,
            examples: ['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
          },
        },
        {
          name: "Idempotency-Attempt",
          in: "header",
          description:
            "1 when the key is new and sent for the first time: a flood can then be denied without looking the key up. Any other value is ignored.",
          schema: { type: "string", examples: ["1"] },
        },
      ],
      requestBody: requestBody(`${kind}DecisionRequest`),
      responses: {
        ...problems(400, 401, 403, 408, 413, 415, 422, 500, 503, ...more),
        200: { description: "Allowed and recorded.", headers: RATE_LIMIT, content: content(`${kind}Decision`) },
        429: {
          description: "Denied; nothing is recorded. Without `allowed`: too many sign-ins from this address failed.",
          headers: { ...RATE_LIMIT, "Retry-After": RETRY_AFTER },
          content: content([`${kind}Denied`, "Problem"], "application/problem+json"),
        },
      },
    },
  };
}

function checkCall(operationId: string, kind: Kind, more: number[]): Json {
  return {
    post: {
      operationId,
      summary: `Decide, record nothing${limitsOf(kind)}`,
      requestBody: requestBody(`${kind}DecisionRequest`),
      responses: {
        200: { description: "Allowed or denied.", headers: RATE_LIMIT, content: content(`${kind}Decision`) },
        ...problems(400, 401, 403, 408, 413, 415, 422, 500, 503, ...more),
      },
    },
  };
}

const CHANGES = {
  Settle: { does: "Correct the cost of an earlier consume", done: "Corrected.", answer: "Settlement" },
  Release: {
    does: "End an earlier consume for concurrent limits",
    done: "Released.",
    answer: "Release",
  },
} as const;

function changeCall(operationId: string, change: keyof typeof CHANGES, kind: Kind): Json {
  const { does, done, answer } = CHANGES[change];
  return {
    post: {
      operationId,
      summary: `${does}${limitsOf(kind)}`,
      requestBody: requestBody(`${kind}${change}Request`),
      responses: {
        200: { description: done, headers: RATE_LIMIT, content: content(answer) },
        ...problems(400, 401, 403, 404, 408, 413, 415, 500, 503),
      },
    },
  };
}

function limitsOf(kind: Kind): string {
  return kind === "Inline" ? ", by limits that the request names" : "";
}
