import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { describe, expect, test } from "vitest";
import { appOf } from "../../src/http/app";
import { ROUTES } from "../../src/http/routes";
import type { Stats } from "../../src/request/admin-schema";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody } from "../behaviour/target";
import { type Bindings, workerTarget } from "./target";
import { watched } from "./watched";

const GATE = "hops=1,user=X-User-Id,org=X-Org";
const digest = (token: string) => `sha256:${bytesToHex(sha256(utf8ToBytes(token)))}`;

const VARIABLES = {
  LIMITER_GATE: GATE,
  LIMITER_TOKEN_DIGESTS: [
    `nginx caller policies=chat ${digest("nginx-token")}`,
    `grafana metrics-only ${digest("grafana-token")}`,
    `gone caller until=2020-01-01T00:00:00Z ${digest("gone-token")}`,
  ].join("\n"),
};

type Headers = Record<string, string>;

/** A service with the gate, asked as a proxy asks it: for a visitor with an address. */
function gateWith(variables: Record<string, unknown> = {}) {
  const target = workerTarget({ ...VARIABLES, ...variables });
  const ask = (path: string, headers: Headers, init: RequestInit = {}) =>
    target.fetch(path, { ...init, headers: { "X-Limiter-Token": "caller-token", ...headers } });
  return { ask, caller: new Caller(target) };
}

const { ask, caller } = gateWith();
const from = (ip: string, more: Headers = {}): Headers => ({ "X-Forwarded-For": ip, ...more });
const bodyOf = (response: Response) => json<Partial<ProblemBody & DecisionBody>>(response);
const statuses = async (count: number, send: () => Promise<Response>) => {
  const seen: number[] = [];
  for (let i = 0; i < count; i++) seen.push((await send()).status);
  return seen;
};

describe("a gate", () => {
  test("lets five pass and refuses the sixth, with the headers of a consume and a body without keys", async () => {
    const { ip } = newSubject();
    const allowed = await ask("/v1/gate/chat", from(ip));
    expect(allowed.status).toBe(200);
    expect(allowed.headers.get("RateLimit")).toBe(
      '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60',
    );
    expect(allowed.headers.get("RateLimit-Policy")).toContain('"caller/60s";q=5;w=60');
    expect(await bodyOf(allowed)).toEqual({ allowed: true, retry_after_seconds: null });
    expect(await statuses(4, () => ask("/v1/gate/chat", from(ip)))).toEqual([200, 200, 200, 200]);
    const denied = await ask("/v1/gate/chat", from(ip));
    expect([denied.status, denied.headers.get("Content-Type")]).toEqual([429, "application/problem+json"]);
    const seconds = Number(denied.headers.get("Retry-After"));
    expect(denied.headers.get("RateLimit")).toContain('"caller/60s";r=0;t=');
    expect(await bodyOf(denied)).toEqual({
      type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
      title: "Quota Exceeded",
      status: 429,
      detail: `A limit is reached. This cost fits again in ${seconds} s.`,
      "violated-policies": ["caller/60s"],
      allowed: false,
      retry_after_seconds: seconds,
    });
  });

  test("charges what a consume of the same subject charges", async () => {
    const subject = { ...newSubject(), org: "o" };
    await ask("/v1/gate/chat", from(subject.ip, { "X-User-Id": ` ${subject.user} ` }));
    await caller.consume("chat", subject);
    expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    await ask("/v1/gate/upload", from(subject.ip, { "X-User-Id": subject.user, "X-Org": "o" }));
    expect((await caller.used("upload", subject)).slice(0, 2)).toEqual([1, 1]);
  });

  test("answers any method, and reads no body", async () => {
    const { ip } = newSubject();
    const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    const answers = await Promise.all(
      methods.map((method) => {
        const hasBody = ["POST", "PUT", "PATCH"].includes(method);
        const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1_024)) });
        return ask("/v1/gate/chat", from(ip), { method, ...(hasBody && { body: endless }) });
      }),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 200, 429, 429]);
    expect(await answers[1]?.text()).toBe("");
  });

  test("denies with 403 if the proxy asks for it, and with 429 otherwise", async () => {
    const { ip } = newSubject();
    await statuses(5, () => ask("/v1/gate/chat?denied=403", from(ip)));
    const forbidden = await ask("/v1/gate/chat?denied=403", from(ip));
    expect(forbidden.status).toBe(403);
    expect(forbidden.headers.get("Retry-After")).toMatch(/^\d+$/);
    expect(await bodyOf(forbidden)).toMatchObject({ status: 403, allowed: false });
    for (const query of ["", "?denied=429", "?denied=200", "?denied=429&denied=403", "?hops=2&user=evil&denied"])
      expect((await ask(`/v1/gate/chat${query}`, from(ip))).status).toBe(429);
  });

  test("takes the visitor's path after the policy, whatever it is", async () => {
    const { ip } = newSubject();
    for (const path of ["/", "//", "/index.html", "/a/b?x=y", "/%2e%2e%2fhealthz"])
      expect([path, (await ask(`/v1/gate/chat${path}`, from(ip))).status]).toEqual([path, 200]);
    for (const path of ["/v1/gate", "/v1/gate/"]) expect((await ask(path, from(ip))).status).not.toBe(200);
  });

  test("lets no path of a visitor lead to another call", async () => {
    const { ip } = newSubject();
    for (const path of ["/../../../healthz", "/../../../openapi.json", "/%2e%2e/../../healthz", "/..\\..\\..\\healthz"])
      expect([path, (await ask(`/v1/gate/chat${path}`, from(ip))).status]).toEqual([path, 400]);
    for (const path of ["/healthz", "/v1/policies", "/console", "/v1/gate"])
      expect((await ask(path, { ...from(ip), Authorization: "Bearer caller-token" })).status).toBe(400);
    expect(await caller.used("chat", { ip })).toEqual([0, 0, 0]);
  });

  test("reads nothing of what belongs to the visitor: Authorization, an idempotency key, an upgrade", async () => {
    const { ip } = newSubject();
    const visitors = {
      Authorization: "Bearer admin-token",
      "Idempotency-Key": "visitors-own",
      "Idempotency-Attempt": "1",
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Protocol": "exact-limiter.v1, bearer.admin-token",
      "Content-Encoding": "br",
      "Content-Type": "text/plain",
    };
    expect(await statuses(6, () => ask("/v1/gate/chat", from(ip, visitors)))).toEqual([200, 200, 200, 200, 200, 429]);
    const invalidKey = { "Idempotency-Key": "not a key!" };
    expect((await ask("/v1/gate/chat", from(newSubject().ip, invalidKey))).status).toBe(200);
  });
});

describe("the subject of a gate", () => {
  const keyOf = async (gate: string, headers: Headers) => {
    const { ask, caller } = gateWith({ LIMITER_GATE: gate });
    expect((await ask("/v1/gate/chat", headers)).status).toBe(200);
    return (ip: string) => caller.used("chat", { ip });
  };

  test("is the address that the outermost trusted proxy saw, counted from the end", async () => {
    const visitor = newSubject().ip;
    const forged = newSubject().ip;
    for (const [gate, entries] of [
      ["hops=1", [forged, visitor]],
      ["hops=2", [forged, visitor, "192.0.2.1"]],
      ["hops=3", ["", "no address", visitor, "192.0.2.1", "192.0.2.2"]],
    ] as const)
      await keyOf(gate, from(entries.join(", ")));
    const used = await keyOf("hops=1", from(visitor));
    expect(await used(visitor)).toEqual([4, 4, 4]);
    expect(await used(forged)).toEqual([0, 0, 0]);
  });

  test("may have a port, or be a header of its own", async () => {
    const { ip } = newSubject();
    await keyOf("hops=1", from(`${ip}:49152`));
    const used = await keyOf("ip=X-Real-IP", { "X-Real-IP": ip });
    expect(await used(ip)).toEqual([2, 2, 2]);
    const six = `2001:db8:${Math.floor(Math.random() * 60_000).toString(16)}::7`;
    await keyOf("hops=1", from(`[${six}]:49152`));
    expect(await (await keyOf("hops=1", from(`[${six}]`)))(six)).toEqual([2, 2, 2]);
  });

  test.each([
    ["no X-Forwarded-For", "hops=1", {}, "/subject/ip", "X-Forwarded-For has no entry 1 from its end (hops)"],
    [
      "too few entries",
      "hops=2",
      from("192.0.2.1"),
      "/subject/ip",
      "X-Forwarded-For has no entry 2 from its end (hops)",
    ],
    [
      "an empty entry",
      "hops=1",
      from("192.0.2.1, "),
      "/subject/ip",
      "X-Forwarded-For has no entry 1 from its end (hops)",
    ],
    ["no address", "hops=1", from("192.0.2.1, unknown"), "/subject/ip", "must be an IPv4 address"],
    [
      "a header twice",
      GATE,
      from("192.0.2.1", { "X-User-Id": "evil, u_1" }),
      "/subject/user",
      "X-User-Id is sent twice",
    ],
    ["no UTF-8", GATE, from("192.0.2.1", { "X-User-Id": "\ufffd" }), "/subject/user", "X-User-Id is not UTF-8"],
    ["no attribute", "user=X-User-Id", { "X-User-Id": " " }, "/subject/user", 'missing: layer "caller" counts by user'],
  ])("with %s is a 400 that says what is wrong", async (_, gate, headers, pointer, detail) => {
    const response = await gateWith({ LIMITER_GATE: gate }).ask("/v1/gate/chat", headers as Headers);
    expect(response.status).toBe(400);
    const { errors = [] } = await bodyOf(response);
    expect(errors).toContainEqual({ pointer, detail: expect.stringContaining(detail) });
  });

  test("takes no header that is not configured", async () => {
    const { ip, user } = newSubject();
    const { ask, caller } = gateWith({ LIMITER_GATE: "hops=1" });
    await ask("/v1/gate/chat", from(ip, { "X-User-Id": user, "X-Real-IP": "192.0.2.9" }));
    expect(await caller.used("chat", { user, ip })).toEqual([0, 0, 1]);
  });

  test("has no user while the header is blank", async () => {
    const { ip } = newSubject();
    await ask("/v1/gate/chat", from(ip, { "X-User-Id": "" }));
    expect(await caller.used("chat", { ip })).toEqual([1, 1, 1]);
  });
});

describe("the token of a gate", () => {
  const { ip } = newSubject();
  const as = (token: string, path = "/v1/gate/chat") =>
    ask(path, from(ip, { "X-Limiter-Token": token, Authorization: "Bearer caller-token" }));

  test("is a 401 if it is missing, wrong or has ended, whatever the visitor's Authorization is", async () => {
    const { target } = caller;
    const missing = await target.fetch("/v1/gate/chat", {
      headers: from(ip, { Authorization: "Bearer caller-token" }),
    });
    expect([missing.status, missing.headers.get("WWW-Authenticate")]).toEqual([401, "Bearer"]);
    expect((await bodyOf(missing)).detail).toBe("The request has no token. Have the proxy set X-Limiter-Token.");
    for (const token of ["wrong", "gone-token", "caller-token, caller-token", "Bearer caller-token", ""])
      expect([token, (await as(token)).status]).toEqual([token, 401]);
  });

  test("is a caller's or an admin's, and uses no other policy than it may", async () => {
    expect((await as("grafana-token")).status).toBe(403);
    expect((await as("admin-token")).status).toBe(200);
    expect((await as("nginx-token")).status).toBe(200);
    for (const policy of ["burst", "nope", "inline"])
      expect((await as("nginx-token", `/v1/gate/${policy}?denied=403`)).status).toBe(403);
    expect((await as("caller-token", "/v1/gate/nope")).status).toBe(404);
    expect((await as("caller-token", "/v1/gate/ch%61t")).status).toBe(404);
  });

  test("is no token of any other call", async () => {
    for (const path of ["/v1/policies", "/v1/session", "/metrics"]) expect((await ask(path, {})).status).toBe(400);
  });

  test("is asked for before the gate is off", async () => {
    const off = gateWith({ LIMITER_GATE: "" });
    expect((await off.ask("/v1/gate/chat", from(ip, { "X-Limiter-Token": "wrong" }))).status).toBe(401);
    const response = await off.ask("/v1/gate/chat", from(ip));
    expect(response.status).toBe(403);
    expect((await bodyOf(response)).detail).toBe("The gate is off. Set LIMITER_GATE, such as hops=1, to switch it on.");
  });
});

test("layers in shadow deny no visitor, and are not told", async () => {
  const headers = from(newSubject().ip, { "X-User-Id": newSubject().user });
  expect(await statuses(4, () => ask("/v1/gate/trial", headers))).toEqual([200, 200, 200, 200]);
  const last = await ask("/v1/gate/trial", headers);
  expect(await bodyOf(last)).toEqual({ allowed: true, retry_after_seconds: null });
  expect(last.headers.get("RateLimit-Policy")).toBe('"caller/60s";q=5;w=60');
});

test("while no object answers, a gate refuses with 503, or lets pass without headers if that is configured", async () => {
  const askWithout = (onError: string) => {
    const { caller } = watched("key", () => "lost", {
      ...VARIABLES,
      RATE_LIMIT_ON_ERROR: onError,
      RATE_LIMIT_DEADLINE_MS: "50",
    });
    return caller.target.fetch("/v1/gate/chat?denied=403", {
      headers: from(newSubject().ip, { "X-Limiter-Token": "caller-token" }),
    });
  };
  const refused = await askWithout("deny");
  expect([refused.status, refused.headers.get("Retry-After")]).toEqual([503, "1"]);
  const passed = await askWithout("allow");
  expect([passed.status, passed.headers.get("RateLimit")]).toEqual([200, null]);
  expect(await bodyOf(passed)).toEqual({ allowed: true, retry_after_seconds: null });
});

test("calls of a gate are counted as consumes, as requests of their token and as failed sign-ins", async () => {
  const name = crypto.randomUUID();
  const real = env as unknown as Bindings;
  const environment = {
    ...real,
    ...VARIABLES,
    LIMITER_STATS: { getByName: (object: string) => real.LIMITER_STATS.getByName(`${name} ${object}`) },
  } as unknown as Bindings;
  const send = (path: string, headers: Headers) =>
    appOf(ROUTES)(new Request(`https://limiter.test${path}`, { headers }), environment, createExecutionContext());
  const { ip } = newSubject();
  for (let i = 0; i < 7; i++) await send("/v1/gate/chat", from(ip, { "X-Limiter-Token": "nginx-token" }));
  await send("/v1/gate/chat", from(ip, { "X-Limiter-Token": "wrong" }));
  const stats = await json<Stats>(await send("/v1/stats", { Authorization: "Bearer admin-token" }));
  const counts = stats.minutes.flatMap(({ counts }) => counts).filter(({ layer }) => layer === null);
  const sum = (...outcomes: string[]) =>
    counts.filter(({ outcome }) => outcomes.includes(outcome)).reduce((n, { count }) => n + count, 0);
  expect([sum("allowed"), sum("denied", "denied_at_edge")]).toEqual([5, 2]);
  expect(stats.requests).toContainEqual({ token: "nginx", count: 7 });
  expect(stats.failed_sign_ins).toBe(1);
});
