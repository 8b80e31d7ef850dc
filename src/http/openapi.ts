import { GATE_TOKEN } from "./auth";
import { adminPaths } from "./openapi-admin";
import { content, type Json, problems, schemas } from "./openapi-components";
import { decisionPaths } from "./openapi-decisions";

let document: Json | undefined;

/** The OpenAPI 3.1 document of the service, made from the schemas that validate. */
export function openApi(): Json {
  document ??= makeDocument();
  return document;
}

function makeDocument(): Json {
  return {
    openapi: "3.1.0",
    info: {
      title: "Exact limiter",
      version: "1",
      description: "Exact sliding-window rate limits: all or nothing over every layer of a policy.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    security: [{ bearer: [] }],
    paths: {
      ...decisionPaths(),
      "/v1/policies": {
        get: {
          operationId: "policies",
          summary: "The policies in force, of those that the token may use",
          responses: {
            200: { description: "All policies.", content: content("PolicyList") },
            ...problems(401, 403, 500, 503),
          },
        },
      },
      ...adminPaths(),
      "/healthz": {
        get: {
          operationId: "health",
          summary: "Is the service up, with a valid configuration?",
          security: [],
          responses: {
            200: {
              description: "It is up, and its configuration is valid.",
              content: {
                "application/json": {
                  schema: { type: "object", required: ["status"], properties: { status: { const: "ok" } } },
                },
              },
            },
            ...problems(503),
          },
        },
      },
      "/openapi.json": {
        get: {
          operationId: "document",
          summary: "This document",
          security: [],
          responses: {
            200: { description: "OpenAPI 3.1.", content: { "application/json": { schema: { type: "object" } } } },
          },
        },
      },
    },
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        gate: { type: "apiKey", in: "header", name: GATE_TOKEN },
      },
      schemas: schemas(),
    },
  };
}
