import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { afterAll, describe, expect, test } from "vitest";
import { makeToken } from "../../src/cli/token/make";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

interface Operation {
  readonly requestBody?: { readonly content: Record<string, { readonly schema: object }> };
  readonly responses: Record<
    string,
    {
      readonly headers?: Record<string, object>;
      readonly content?: Record<string, { readonly schema: object }>;
    }
  >;
}

const uploader = makeToken({ name: "uploader", role: "caller", policies: ["upload"] });
const service = await ServiceProcess.start(variables({ LIMITER_TOKEN_DIGESTS: uploader.line, LIMITER_GATE: "hops=1" }));
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));
const document = (await (await service.fetch("/openapi.json")).json()) as {
  paths: Record<string, Record<string, Operation>>;
  components: object;
};

function setOverride(key: string, body: object | string): Promise<Response> {
  return service.fetch(`/v1/keys/${key}/override`, {
    method: "PUT",
    headers: { Authorization: "Bearer admin-token", "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

/** Validates a value against a schema of the document. */
function mistakes(schema: object, value: unknown): unknown {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  (addFormats as unknown as (ajv: Ajv2020) => void)(ajv);
  const validate = ajv.compile({ ...schema, components: document.components });
  return validate(value) ? [] : validate.errors;
}

test("is a valid OpenAPI 3.1 document", async () => {
  expect(await new Validator().validate(structuredClone(document))).toMatchObject({ valid: true });
});

test("describes the reply of every call", async () => {
  const subject = newSubject();
  const valid = { policy: "chat", subject, cost: 5 };
  const inline = { layers: [{ name: "login", key: "a/b", limits: ["5/minute"] }], cost: 5 };
  const overridden = { policy: "chat", subject: { ...subject, user: "overridden" } };
  const ban = { kind: "ban", reason: "a test", expires_in_seconds: 60 };
  const put = (body: object | string) => setOverride("user:overridden", body);
  const gate = (path: string, headers: Record<string, string> = {}) =>
    service.fetch(`/v1/gate/${path}`, {
      headers: { "X-Limiter-Token": "caller-token", "X-Forwarded-For": newSubject().ip, ...headers },
    });
  const bannedAt = (path: string) =>
    setOverride("ip:192.0.2.77", ban).then(() => gate(path, { "X-Forwarded-For": "192.0.2.77" }));
  const noToken = { headers: {} };
  const caller401 = (path: string) => service.fetch(path, noToken);
  const as = (token: string, more: Record<string, string> = {}) => ({ Authorization: `Bearer ${token}`, ...more });
  const forbidden = (path: string, body: object) => caller.post(path, body, as(uploader.token));
  const slowed = async (path: string, method: string) => {
    const send = () => service.fetch(path, { method, headers: as("wrong", { "CF-Connecting-IP": "192.0.2.1" }) });
    // Beyond the limit in wrangler.toml, within one of its minutes.
    let response = await send();
    for (let i = 0; response.status === 401 && i < 50; i++) response = await send();
    return response;
  };
  const answers: [path: string, method: string, status: number, response: Promise<Response>][] = [
    ["/v1/consume", "post", 200, caller.post("/v1/consume", valid)],
    ["/v1/consume", "post", 400, caller.post("/v1/consume", { policy: 1 })],
    ["/v1/consume", "post", 401, service.fetch("/v1/consume", { method: "POST" })],
    ["/v1/consume", "post", 404, caller.post("/v1/consume", { ...valid, policy: "nope" })],
    ["/v1/consume", "post", 413, caller.post("/v1/consume", " ".repeat(9_000))],
    ["/v1/consume", "post", 415, caller.post("/v1/consume", valid, { "Content-Type": "text/plain" })],
    ["/v1/consume", "post", 422, caller.post("/v1/consume", { ...valid, cost: 6 })],
    ["/v1/check", "post", 200, caller.post("/v1/check", valid)],
    ["/v1/check", "post", 200, caller.post("/v1/check", { ...valid, policy: "trial" })],
    ["/v1/inline/consume", "post", 200, caller.post("/v1/inline/consume", inline)],
    ["/v1/inline/consume", "post", 400, caller.post("/v1/inline/consume", {})],
    ["/v1/inline/check", "post", 200, caller.post("/v1/inline/check", inline)],
    ["/v1/inline/settle", "post", 404, caller.post("/v1/inline/settle", { ...inline, id: "nope" })],
    ["/v1/consume", "post", 200, caller.post("/v1/consume", { policy: "jobs", subject }, { "Idempotency-Key": "k" })],
    ["/v1/release", "post", 200, caller.post("/v1/release", { policy: "jobs", subject, id: "k" })],
    ["/v1/release", "post", 400, caller.post("/v1/release", { policy: "jobs", subject })],
    ["/v1/release", "post", 401, service.fetch("/v1/release", { method: "POST" })],
    ["/v1/release", "post", 404, caller.post("/v1/release", { policy: "jobs", subject, id: "nope" })],
    ["/v1/inline/release", "post", 404, caller.post("/v1/inline/release", { layers: inline.layers, id: "nope" })],
    [
      "/v1/batch",
      "post",
      200,
      caller.post("/v1/batch", { requests: [{ op: "release", id: "k", policy: "jobs", subject }] }),
    ],
    ["/v1/inline/keys/{key}", "delete", 204, caller.admin("/v1/inline/keys/a%2Fb", { method: "DELETE" })],
    ["/v1/inline/keys/{key}", "delete", 400, caller.admin("/v1/inline/keys/%20", { method: "DELETE" })],
    ["/v1/policies", "get", 200, caller.admin("/v1/policies")],
    ["/v1/policies", "get", 401, caller401("/v1/policies")],
    ["/v1/keys/{key}", "get", 200, caller.admin(`/v1/keys/user:${subject.user}`)],
    ["/v1/keys/{key}", "get", 400, caller.admin("/v1/keys/x")],
    ["/v1/keys/{key}", "get", 401, caller401("/v1/keys/user:x")],
    [
      "/v1/keys/{key}",
      "get",
      403,
      service.fetch("/v1/keys/user:x", { headers: { Authorization: "Bearer caller-token" } }),
    ],
    ["/v1/keys/{key}", "delete", 204, caller.admin("/v1/keys/user:x", { method: "DELETE" })],
    ["/v1/keys/{key}/override", "put", 200, put(ban)],
    ["/v1/keys/{key}/override", "put", 400, put({})],
    ["/v1/keys/{key}/override", "put", 413, put(" ".repeat(9_000))],
    ["/v1/keys/{key}", "get", 200, put(ban).then(() => caller.admin("/v1/keys/user:overridden"))],
    ["/v1/consume", "post", 429, put(ban).then(() => caller.post("/v1/consume", overridden))],
    ["/v1/keys/{key}/override", "delete", 204, caller.admin("/v1/keys/user:x/override", { method: "DELETE" })],
    ["/v1/keys/{key}", "get", 200, put(ban).then(() => caller.admin("/v1/keys/user:overridden?denials=10"))],
    ["/v1/overrides", "get", 200, put(ban).then(() => caller.admin("/v1/overrides?limit=1"))],
    ["/v1/overrides", "get", 400, caller.admin("/v1/overrides?limit=51")],
    ["/v1/overrides", "get", 401, caller401("/v1/overrides")],
    ["/v1/audit", "get", 200, put(ban).then(() => caller.admin("/v1/audit?key=user%3Aoverridden&before=1000"))],
    ["/v1/audit", "get", 400, caller.admin("/v1/audit?before=0")],
    ["/v1/audit", "get", 403, service.fetch("/v1/audit", { headers: { Authorization: "Bearer caller-token" } })],
    ["/v1/stats", "get", 200, caller.admin("/v1/stats?minutes=5")],
    ["/v1/stats", "get", 400, caller.admin("/v1/stats?minutes=0")],
    ["/v1/stats", "get", 401, caller401("/v1/stats")],
    ["/v1/stats", "get", 403, service.fetch("/v1/stats", { headers: { Authorization: "Bearer caller-token" } })],
    ["/metrics", "get", 200, caller.admin("/metrics")],
    ["/metrics", "get", 401, caller401("/metrics")],
    ["/v1/check", "post", 403, forbidden("/v1/check", valid)],
    ["/v1/consume", "post", 403, forbidden("/v1/consume", valid)],
    ["/v1/settle", "post", 403, forbidden("/v1/settle", { policy: "chat", subject, id: "k", cost: 1 })],
    ["/v1/release", "post", 403, forbidden("/v1/release", { policy: "chat", subject, id: "k" })],
    ["/v1/batch", "post", 200, forbidden("/v1/batch", { requests: [{ op: "check", ...valid }] })],
    ["/v1/gate/{policy}", "get", 200, gate("chat")],
    ["/v1/gate/{policy}", "get", 400, gate("chat", { "X-Forwarded-For": "nowhere" })],
    ["/v1/gate/{policy}", "get", 401, gate("chat", { "X-Limiter-Token": "wrong" })],
    ["/v1/gate/{policy}", "get", 403, gate("chat", { "X-Limiter-Token": uploader.token })],
    ["/v1/gate/{policy}", "get", 403, bannedAt("chat?denied=403")],
    ["/v1/gate/{policy}", "get", 404, gate("nope")],
    ["/v1/gate/{policy}", "get", 429, bannedAt("chat")],
    ["/v1/policies", "get", 429, slowed("/v1/policies", "GET")],
    ["/v1/settle", "post", 429, slowed("/v1/settle", "POST")],
    ["/healthz", "get", 200, service.fetch("/healthz")],
    ["/openapi.json", "get", 200, service.fetch("/openapi.json")],
  ];
  for (const [, , , response] of answers) await response;
  answers.push(["/v1/consume", "post", 429, caller.post("/v1/consume", valid)]);
  for (const [path, method, status, promise] of answers) {
    const response = await promise;
    const documented = document.paths[path]?.[method]?.responses[status];
    const type = response.headers.get("Content-Type");
    expect([path, response.status, documented !== undefined]).toEqual([path, status, true]);
    expect([path, status, type === null ? [] : [type]]).toEqual([path, status, Object.keys(documented?.content ?? {})]);
    const schema = documented?.content?.[type ?? ""]?.schema;
    const body = type?.startsWith("text/") ? await response.text() : schema && (await response.json());
    if (schema) expect([path, status, mistakes(schema, body)]).toEqual([path, status, []]);
    for (const name of Object.keys(documented?.headers ?? {}))
      expect([path, status, name, response.headers.has(name)]).toEqual([path, status, name, true]);
  }
});

test("a consume that is a 429 has no decision if its sign-in failed once too often", () => {
  const { schema = {} } =
    document.paths["/v1/consume"]?.post?.responses[429]?.content?.["application/problem+json"] ?? {};
  const problem = { type: "about:blank", title: "Too Many Requests", status: 429, detail: "Too many sign-ins failed." };
  expect(mistakes(schema, problem)).toEqual([]);
  expect(mistakes(schema, { status: 429 })).not.toEqual([]);
});

describe("validates requests like the service:", () => {
  const check = { path: "/v1/check", method: "post", send: (body: object) => caller.post("/v1/check", body) };
  const override = {
    path: "/v1/keys/{key}/override",
    method: "put",
    send: (body: object) => setOverride("user:sent", body),
  };
  const ban = { kind: "ban", reason: "a test", expires_in_seconds: 60 };
  const limits = [{ policy: "chat", layer: "caller", limits: ["9/minute"] }];
  const { expires_in_seconds: _, ...endless } = ban;
  test.each([
    [check, { policy: "chat", subject: { ip: "1.2.3.4" } }, true],
    [check, { policy: "chat", subject: { ip: "1.2.3.4", user: null }, cost: 5 }, true],
    [check, { policy: "chat" }, false],
    [check, { policy: "chat", subject: { ip: 5 } }, false],
    [check, { policy: "chat", subject: {}, cost: 0 }, false],
    [check, { policy: "chat", subject: {}, cost: 1.5 }, false],
    [check, { policy: "chat", subject: {}, more: 1 }, false],
    [override, ban, true],
    [override, { ...endless, expires_at: new Date(Date.now() + 60_000).toISOString() }, true],
    [override, endless, false],
    [override, { ...ban, expires_at: new Date(Date.now() + 60_000).toISOString() }, false],
    [override, { ...ban, limits }, false],
    [override, { ...ban, kind: "exempt", limits }, false],
    [override, { ...ban, kind: "limits", limits }, true],
    [override, { ...ban, kind: "limits" }, false],
    [override, { ...ban, kind: "other" }, false],
    [override, { ...ban, more: 1 }, false],
  ])("%j to $path", async ({ path, method, send }, body, isValid) => {
    const { schema = {} } = document.paths[path]?.[method]?.requestBody?.content["application/json"] ?? {};
    expect(mistakes(schema, body)).toEqual(isValid ? [] : expect.arrayContaining([expect.anything()]));
    expect((await send(body)).status).toBe(isValid ? 200 : 400);
  });
});
