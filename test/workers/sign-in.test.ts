import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { afterEach, describe, expect, test, vi } from "vitest";
import { appOf } from "../../src/http/app";
import { ROUTES } from "../../src/http/routes";
import type { Stats } from "../../src/request/admin-schema";
import { json, newSubject, type ProblemBody } from "../behaviour/target";
import { type Bindings, workerTarget } from "./target";

const digest = (token: string) => `sha256:${bytesToHex(sha256(utf8ToBytes(token)))}`;

const ENDS_AT = "2040-01-01T00:00:00.000Z";
const TOKENS = [
  `backend caller ${digest("backend-token")}`,
  `chat-only caller policies=chat+gone ${digest("chat-token")}`,
  `importer caller policies=inline+upload ${digest("inline-token")}`,
  `on-call admin ${digest("on-call-token")}`,
  `grafana metrics-only ${digest("grafana-token")}`,
  `rotated caller until=${ENDS_AT} ${digest("old-token")}`,
  `rotated caller ${digest("new-token")}`,
].join("\n");

const real = env as unknown as Bindings;

/** The service with these tokens. Its calls are made with the named token. */
function serviceWith(variables: Record<string, unknown> = {}) {
  const target = workerTarget({
    LIMITER_TOKEN_DIGESTS: TOKENS,
    LIMITER_TOKENS: "",
    LIMITER_ADMIN_TOKENS: "",
    ...variables,
  });
  const call = (token: string, method: string, path: string, body?: unknown, more: Record<string, string> = {}) =>
    target.fetch(path, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...more },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  return { call, target };
}

afterEach(() => void vi.useRealTimers());

describe("a token that is configured by its digest", () => {
  const { call } = serviceWith();
  const check = { policy: "chat", subject: newSubject() };
  const KEY = "/v1/keys/user:u";

  test.each([
    ["backend-token", { check: 200, policies: 200, key: 403, metrics: 403 }],
    ["on-call-token", { check: 200, policies: 200, key: 200, metrics: 404 }],
    ["grafana-token", { check: 403, policies: 403, key: 403, metrics: 404 }],
    ["new-token", { check: 200, policies: 200, key: 403, metrics: 403 }],
    ["old-token", { check: 200, policies: 200, key: 403, metrics: 403 }],
    ["other-token", { check: 401, policies: 401, key: 401, metrics: 401 }],
  ])("permits what its role permits: %s", async (token, expected) => {
    const statuses = {
      check: (await call(token, "POST", "/v1/check", check)).status,
      policies: (await call(token, "GET", "/v1/policies")).status,
      key: (await call(token, "GET", KEY)).status,
      // Nothing is counted here.
      metrics: (await call(token, "GET", "/metrics")).status,
    };
    expect(statuses).toEqual(expected);
  });

  test("is told which token a call takes", async () => {
    const detailOf = async (token: string, path: string) =>
      (await json<ProblemBody>(await call(token, "GET", path))).detail;
    expect(await detailOf("backend-token", KEY)).toBe("This call takes no caller token. Send an admin token.");
    expect(await detailOf("grafana-token", "/v1/stats")).toBe(
      "This call takes no metrics-only token. Send an admin token.",
    );
    expect(await detailOf("grafana-token", "/v1/policies")).toBe(
      "This call takes no metrics-only token. Send a caller token or an admin token.",
    );
    expect(await detailOf("backend-token", "/metrics")).toBe(
      "This call takes no caller token. Send a metrics-only token or an admin token.",
    );
  });

  test("works beside the lists", async () => {
    const { call } = serviceWith({ LIMITER_TOKENS: "listed" });
    for (const token of ["listed", "backend-token"])
      expect((await call(token, "GET", "/v1/policies")).status).toBe(200);
  });

  test("is refused from the instant of its end on, and the other token of its name is not", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.parse(ENDS_AT) - 1 });
    const { call } = serviceWith();
    const statuses = async () => [
      (await call("old-token", "GET", "/v1/policies")).status,
      (await call("new-token", "GET", "/v1/policies")).status,
    ];
    expect(await statuses()).toEqual([200, 200]);
    vi.setSystemTime(Date.parse(ENDS_AT));
    expect(await statuses()).toEqual([401, 200]);
    const ended = await call("old-token", "GET", "/v1/policies");
    expect(ended.headers.get("WWW-Authenticate")).toBe("Bearer");
    expect((await json<ProblemBody>(ended)).detail).toBe(`The token ended at ${ENDS_AT}.`);
  });
});

describe("a token that may use some policies", () => {
  const { call } = serviceWith();
  const subject = newSubject();
  const upload = { policy: "upload", subject: { ...subject, org: "o" } };

  test("is a 403 for another policy, which changes nothing and is the same as for a policy that does not exist", async () => {
    for (const [path, more] of [
      ["/v1/consume", {}],
      ["/v1/check", {}],
      ["/v1/settle", { id: "x", cost: 1 }],
      ["/v1/release", { id: "x" }],
    ] as const)
      for (const policy of ["upload", "nope"]) {
        const response = await call("chat-token", "POST", path, { ...upload, policy, ...more });
        expect([path, response.status, await json<ProblemBody>(response)]).toEqual([
          path,
          403,
          {
            type: "about:blank",
            title: "Forbidden",
            status: 403,
            detail: `The token may not use the policy "${policy}".`,
            errors: [{ pointer: "/policy", detail: "must name a policy that the token may use" }],
          },
        ]);
      }
    const { limits } = await json<{ limits: { used: number }[] }>(
      await call("backend-token", "POST", "/v1/check", upload),
    );
    expect(limits.map(({ used }) => used)).toEqual([0, 0, 0]);
    expect((await call("chat-token", "POST", "/v1/consume", { policy: "chat", subject })).status).toBe(200);
  });

  test("is a 404 for a policy that it may use and that is not in force", async () => {
    expect((await call("chat-token", "POST", "/v1/check", { policy: "gone", subject })).status).toBe(404);
  });

  test("is told mistakes of the body first, and nothing of the attributes that the policy counts by", async () => {
    const errorsOf = async (body: unknown) => {
      const response = await call("chat-token", "POST", "/v1/consume", body);
      return [response.status, (await json<ProblemBody>(response)).errors?.map(({ pointer }) => pointer)];
    };
    expect(await errorsOf({ ...upload, cost: 0 })).toEqual([400, ["/cost"]]);
    expect(await errorsOf({ policy: "upload", subject: { ip: "no address" } })).toEqual([403, ["/policy"]]);
    expect((await call("chat-token", "POST", "/v1/consume", upload, { "Content-Type": "text/plain" })).status).toBe(
      415,
    );
    expect((await call("chat-token", "POST", "/v1/consume", " ".repeat(9_000))).status).toBe(413);
  });

  test("is told a 403 before the 422 of a cost that never fits", async () => {
    expect((await call("chat-token", "POST", "/v1/consume", { ...upload, cost: 1_000_000 })).status).toBe(403);
  });

  test("is refused by itself in a batch", async () => {
    const chat = { policy: "chat", subject: newSubject() };
    const requests = [
      { op: "consume", ...chat },
      { op: "consume", ...upload },
      { op: "release", id: "x", ...upload },
      { op: "check", ...chat },
    ];
    const { results } = await json<{ results: { status: number }[] }>(
      await call("chat-token", "POST", "/v1/batch", { requests }),
    );
    expect(results.map(({ status }) => status)).toEqual([200, 403, 403, 200]);
  });

  test("sees those policies only", async () => {
    const namesFor = async (token: string) => {
      const { policies } = await json<{ policies: { name: string }[] }>(await call(token, "GET", "/v1/policies"));
      return policies.map(({ name }) => name);
    };
    expect(await namesFor("chat-token")).toEqual(["chat"]);
    expect(await namesFor("inline-token")).toEqual(["upload"]);
    expect(await namesFor("backend-token")).toContain("jobs");
  });

  test("recognises an idempotency key that was used with a policy which it may not use", async () => {
    const key = { "Idempotency-Key": crypto.randomUUID() };
    expect((await call("backend-token", "POST", "/v1/consume", upload, key)).status).toBe(200);
    const chat = { policy: "chat", subject: upload.subject };
    expect((await call("chat-token", "POST", "/v1/consume", chat, key)).status).toBe(422);
  });

  test("uses inline limits only if it may use inline", async () => {
    const layers = [{ name: "a", key: crypto.randomUUID(), limits: ["1/minute"] }];
    for (const [token, status] of [
      ["chat-token", 403],
      ["inline-token", 200],
      ["backend-token", 200],
    ] as const) {
      expect((await call(token, "POST", "/v1/inline/check", { layers })).status).toBe(status);
      expect((await call(token, "DELETE", "/v1/inline/keys/k")).status).toBe(status === 200 ? 204 : status);
    }
    // Before anything of the body is read.
    expect((await call("chat-token", "POST", "/v1/inline/consume", "no JSON")).status).toBe(403);
  });
});

describe("failed sign-ins", () => {
  /** The limit in `wrangler.toml`. */
  const LIMIT = 20;
  let addresses = 0;
  const newAddress = () => `2001:db8:${++addresses}::1`;

  test("from one address are a 429 beyond the limit, and a token in force never waits", async () => {
    const { call } = serviceWith();
    const ip = newAddress();
    const from = (address: string, token: string) =>
      call(token, "GET", "/v1/policies", undefined, { "CF-Connecting-IP": address });
    // The binding counts by minutes of the clock.
    vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2039, 0, 1) });
    for (let i = 0; i < LIMIT; i++) expect((await from(ip, `wrong-${i}`)).status).toBe(401);
    const slowed = await from(ip, "wrong");
    expect([slowed.status, slowed.headers.get("Retry-After"), slowed.headers.get("WWW-Authenticate")]).toEqual([
      429,
      "60",
      null,
    ]);
    expect(await json<ProblemBody>(slowed)).toEqual({
      type: "about:blank",
      title: "Too Many Requests",
      status: 429,
      detail: "Too many sign-ins from this address failed. Wait, and send another token.",
    });
    expect((await from(ip, "backend-token")).status).toBe(200);
    // Another host of the same prefix, and one of another.
    expect((await from(ip.replace("::1", ":0:ffff::5"), "wrong")).status).toBe(429);
    expect((await from(newAddress(), "wrong")).status).toBe(401);
    const session = await call("wrong", "GET", "/v1/session", undefined, {
      "CF-Connecting-IP": ip,
      Upgrade: "websocket",
    });
    expect(session.status).toBe(429);
    vi.setSystemTime(Date.now() + 60_000);
    expect((await from(ip, "wrong")).status).toBe(401);
  });

  test("of a token with another role are none", async () => {
    const { call } = serviceWith();
    const ip = newAddress();
    for (let i = 0; i <= LIMIT; i++)
      expect((await call("grafana-token", "GET", "/v1/stats", undefined, { "CF-Connecting-IP": ip })).status).toBe(403);
  });

  test.each([
    ["no binding", { LIMITER_FAILED_SIGN_INS: undefined }, { "CF-Connecting-IP": "192.0.2.1" }],
    ["no address", {}, {}],
    ["an invalid address", {}, { "CF-Connecting-IP": "nowhere" }],
  ])("are not slowed with %s", async (_, variables, headers) => {
    const { call } = serviceWith(variables);
    for (let i = 0; i <= LIMIT; i++)
      expect((await call("wrong", "GET", "/v1/policies", undefined, headers as Record<string, string>)).status).toBe(
        401,
      );
  });

  test("are a 401 and a line in the log while the binding fails", async () => {
    const errors = vi.spyOn(console, "error").mockImplementation(() => {});
    const limit = () => Promise.reject(new Error("down"));
    const { call } = serviceWith({ LIMITER_FAILED_SIGN_INS: { limit } });
    const response = await call("wrong", "GET", "/v1/policies", undefined, { "CF-Connecting-IP": newAddress() });
    expect(response.status).toBe(401);
    expect(errors.mock.calls[0]?.[0]).toMatchObject({ message: expect.stringContaining("LIMITER_FAILED_SIGN_INS") });
    errors.mockRestore();
  });
});

describe("counts", () => {
  const name = crypto.randomUUID();
  const handle = appOf(ROUTES);
  const environment = {
    ...real,
    LIMITER_TOKEN_DIGESTS: TOKENS,
    LIMITER_STATS: { getByName: (object: string) => real.LIMITER_STATS.getByName(`${name} ${object}`) },
  } as unknown as Bindings;
  const call = (token: string, method: string, path: string, body?: unknown, more: Record<string, string> = {}) =>
    handle(
      new Request(`https://limiter.test${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", ...more },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
      environment,
      createExecutionContext(),
    );

  test("have the requests of each token by its name, each of a batch, and every failed sign-in, slowed ones too", async () => {
    const check = { policy: "chat", subject: newSubject() };
    await call("old-token", "POST", "/v1/check", check);
    await call("new-token", "POST", "/v1/check", check);
    await call("caller-token-2", "GET", "/v1/policies");
    await call("backend-token", "POST", "/v1/batch", { requests: Array(7).fill({ op: "check", ...check }) });
    await call("backend-token", "POST", "/v1/batch", { requests: [] });
    await call("grafana-token", "GET", "/v1/policies");
    vi.useFakeTimers({ toFake: ["Date"] });
    for (let i = 0; i < 25; i++) await call("wrong", "GET", "/metrics", undefined, { "CF-Connecting-IP": "192.0.2.9" });
    vi.useRealTimers();
    await call("wrong", "GET", "/v1/session", undefined, { Upgrade: "websocket" });
    const { requests, failed_sign_ins } = await json<Stats>(await call("on-call-token", "GET", "/v1/stats"));
    expect(Object.fromEntries(requests.map(({ token, count }) => [token, count]))).toEqual({
      rotated: 2,
      "LIMITER_TOKENS[1]": 1,
      backend: 7,
      "on-call": 1,
    });
    expect(failed_sign_ins).toBe(26);
    const metrics = await (await call("grafana-token", "GET", "/metrics")).text();
    expect(metrics).toContain('limiter_requests_total{token="rotated"} 2\n');
    expect(metrics).toContain('limiter_requests_total{token="grafana"} 1\n');
  });
});
