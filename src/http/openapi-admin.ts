import {
  DEFAULT_EVENTS,
  DEFAULT_MINUTES,
  MOST_DENIALS,
  MOST_EVENTS,
  MOST_LISTED_ORDERS,
  MOST_LISTED_OVERRIDES,
  MOST_MINUTES,
} from "../request/admin-schema";
import { KEY_SCHEMA } from "../request/subject";
import { content, type Json, KEY, problems, requestBody } from "./openapi-components";
import { PROMETHEUS_TYPE } from "./prometheus";

/** The calls that take an admin token, as the OpenAPI document has them. */
export function adminPaths(): Json {
  return {
    "/v1/keys/{key}": {
      parameters: [KEY],
      get: {
        operationId: "inspectKey",
        summary: "Every counter of a key (admin)",
        parameters: [
          {
            name: "events",
            in: "query",
            description: "How many of the newest events of each counter to list.",
            schema: { type: "integer", minimum: 0, maximum: MOST_EVENTS, default: DEFAULT_EVENTS },
          },
          {
            name: "denials",
            in: "query",
            description:
              "How many of the last denials to list. They come from memory. Left out: `denials` is left out.",
            schema: { type: "integer", minimum: 0, maximum: MOST_DENIALS },
          },
        ],
        responses: {
          200: { description: "Its counters; none for a key never seen.", content: content("KeyState") },
          ...problems(400, 401, 403, 500, 503),
        },
      },
      delete: {
        operationId: "forgetKey",
        summary: "Forget a key (admin)",
        responses: {
          204: { description: "Forgotten, also when it was never seen." },
          ...problems(400, 401, 403, 500, 503),
        },
      },
    },
    "/v1/keys/{key}/override": {
      parameters: [KEY],
      put: {
        operationId: "setOverride",
        summary: "Override the limits of a key; replaces the override in force (admin)",
        requestBody: requestBody("OverrideRequest"),
        responses: {
          200: { description: "The override is in force.", content: content("OverriddenKey") },
          ...problems(400, 401, 403, 408, 413, 415, 500, 503),
        },
      },
      delete: {
        operationId: "liftOverride",
        summary: "Lift the override of a key (admin)",
        responses: {
          204: { description: "Lifted, also when there was no override." },
          ...problems(400, 401, 403, 500, 503),
        },
      },
    },
    "/v1/overrides": {
      get: {
        operationId: "overrides",
        summary: "All overrides in force, by key (admin)",
        parameters: [
          keyParameter("after", "Only keys after this one: the `next` of the page before."),
          limitParameter(MOST_LISTED_OVERRIDES),
        ],
        responses: {
          200: {
            description: "The overrides, as the objects of their keys have them.",
            content: content("OverrideList"),
          },
          ...problems(400, 401, 403, 404, 500, 503),
        },
      },
    },
    "/v1/audit": {
      get: {
        operationId: "audit",
        summary: "What admins ordered in the last 30 days (admin)",
        parameters: [
          keyParameter("key", "Only orders about this key."),
          {
            name: "before",
            in: "query",
            description: "Only orders with smaller ids: the `next` of the page before.",
            schema: { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
          },
          limitParameter(MOST_LISTED_ORDERS),
        ],
        responses: {
          200: { description: "The orders, newest first.", content: content("Audit") },
          ...problems(400, 401, 403, 404, 500, 503),
        },
      },
    },
    "/v1/stats": {
      get: {
        operationId: "stats",
        summary: "Consumes by minute and outcome, and the keys denied most often (admin)",
        parameters: [
          {
            name: "minutes",
            in: "query",
            description: "How many of the last minutes, including the current one.",
            schema: { type: "integer", minimum: 1, maximum: MOST_MINUTES, default: DEFAULT_MINUTES },
          },
        ],
        responses: {
          200: { description: "The counts, up to a few seconds ago.", content: content("Stats") },
          ...problems(400, 401, 403, 404, 500, 503),
        },
      },
    },
    "/metrics": {
      get: {
        operationId: "metrics",
        summary: "Totals since counting began, for Prometheus (admin or metrics-only)",
        responses: {
          200: {
            description: "The text format of Prometheus, version 0.0.4.",
            content: { [PROMETHEUS_TYPE]: { schema: { type: "string" } } },
          },
          ...problems(401, 403, 404, 500, 503),
        },
      },
    },
  };
}

function keyParameter(name: string, description: string): Json {
  return { name, in: "query", description, schema: { type: "string", ...KEY_SCHEMA } };
}

function limitParameter(most: number): Json {
  return {
    name: "limit",
    in: "query",
    description: "How many to list.",
    schema: { type: "integer", minimum: 1, maximum: most, default: most },
  };
}
