import { exports } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Decision, DecisionRequest, LimiterRpc } from "../../src/worker";
import { Caller, newSubject } from "../behaviour/target";
import { workerTarget } from "./target";

const worker = exports as unknown as { default: Fetcher; LimiterRpc: Service<LimiterRpc> };

test("the Worker's entry serves HTTP", async () => {
  const response = await worker.default.fetch("https://limiter.test/healthz");
  expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
});

describe("RPC", () => {
  const rpc = worker.LimiterRpc;
  const kindOf = (call: PromiseLike<unknown>) =>
    call.then(
      () => undefined,
      (error: { kind?: string }) => error.kind,
    );

  test("takes batches, and returns the status and the body that each call has over HTTP", async () => {
    const subject = newSubject();
    const call = { policy: "chat", subject } as const;
    const requests = [
      { op: "consume", cost: 5, ...call },
      { op: "consume", ...call },
      { op: "check", ...call },
    ] as const;
    const { results } = await rpc.batch({ requests: [...requests] });
    expect(results.map(({ status }) => status)).toEqual([200, 429, 200]);
    expect(await kindOf(rpc.batch({ requests: [] }))).toBe("invalid");
  });

  test("checks and consumes like HTTP, with the same body", async () => {
    const subject = newSubject();
    const http = new Caller(workerTarget());
    const consumed: Decision = await rpc.consume({ policy: "chat", subject, cost: 5 });
    expect(consumed).toMatchObject({ allowed: true, id: expect.any(String), cost: 5, retry_after_seconds: null });
    const { id, ...checked } = await rpc.check({ policy: "chat", subject });
    expect(id).toBeUndefined();
    expect(checked).toEqual(await http.check("chat", subject));
    const denied = await rpc.consume({ policy: "chat", subject });
    expect(denied).toMatchObject({ allowed: false, retry_after_seconds: 60 });
    expect(denied).not.toHaveProperty("status");
  });

  test("settles, and takes an idempotency key as a field", async () => {
    const subject = newSubject();
    const request = { policy: "chat", subject, cost: 5, idempotency_key: "rpc-1" };
    expect(await rpc.consume(request)).toMatchObject({ allowed: true, id: "rpc-1", replayed: false });
    expect(await rpc.consume(request)).toMatchObject({ allowed: true, id: "rpc-1", replayed: true });
    const settled = await rpc.settle({ policy: "chat", subject, id: "rpc-1", cost: 2 });
    expect(settled).toMatchObject({
      id: "rpc-1",
      policy: "chat",
      cost: 2,
      limits: [{ used: 2 }, { used: 2 }, { used: 2 }],
    });
    const refused = [
      await kindOf(rpc.consume({ ...request, cost: 1 })),
      await kindOf(rpc.consume({ ...request, idempotency_key: "no spaces" })),
      await kindOf(rpc.settle({ policy: "chat", subject, id: "nope", cost: 2 })),
    ];
    expect(refused).toEqual(["reused-id", "invalid", "unknown-decision"]);
  });

  test("takes costs by layer, and refuses an object that is no record", async () => {
    const about = { policy: "llm", subject: { user: newSubject().user, org: crypto.randomUUID() } };
    const request = { ...about, idempotency_key: "rpc-2" };
    expect(await rpc.consume({ ...request, cost: { tokens: 400 } })).toMatchObject({
      allowed: true,
      cost: { requests: 1, tokens: 400, budget: 1 },
    });
    const settled = await rpc.settle({ ...about, id: "rpc-2", cost: { tokens: 3 } });
    expect(settled).toMatchObject({ cost: { tokens: 3 }, limits: [{ used: 1 }, { used: 3 }, {}] });
    const asMap = new Map([["tokens", 400]]) as unknown as Record<string, number>;
    expect(await kindOf(rpc.consume({ ...request, cost: asMap }))).toBe("invalid");
  });

  test("releases", async () => {
    const request = { policy: "jobs", subject: newSubject() };
    const { id = "" } = await rpc.consume(request);
    expect(await rpc.release({ ...request, id })).toMatchObject({
      id,
      policy: "jobs",
      released: true,
      limits: [{ used: 0, concurrent: true }, { used: 1 }, { used: 0 }],
    });
    expect(await kindOf(rpc.release({ ...request, id: "nope" }))).toBe("unknown-decision");
  });

  test.each([
    ["invalid", { policy: "chat", subject: { ip: "x" }, cost: 0 }, ["/cost", "/subject/ip"]],
    ["invalid", { policy: "chat" } as DecisionRequest, ["/subject"]],
    ["unknown-policy", { policy: "nope", subject: {} }, ["/policy"]],
    ["never-fits", { policy: "chat", subject: { ip: "1.2.3.4" }, cost: 6 }, []],
  ])("throws a refusal %s that says what is wrong with %j", async (kind, request, pointers) => {
    for (const call of [rpc.check(request), rpc.consume(request)]) {
      const error = await call.then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(error).toMatchObject({ message: expect.any(String), kind });
      expect((error as { errors: { pointer: string }[] }).errors.map(({ pointer }) => pointer)).toEqual(pointers);
    }
  });
});

describe("RPC with a request that is no object", () => {
  const rpc = worker.LimiterRpc as unknown as Record<string, (request?: unknown) => Promise<unknown>>;

  test.each(["check", "consume", "settle", "release", "batch"])(
    "is refused by %s with a message that says so",
    async (method) => {
      for (const request of [undefined, null, "x", 5, true, [], [{ policy: "chat" }]]) {
        const error: unknown = await rpc[method]?.(request).then(
          () => undefined,
          (error: unknown) => error,
        );
        expect([request, error]).toEqual([
          request,
          expect.objectContaining({
            kind: "invalid",
            message: "The request must be an object.",
            errors: [{ pointer: "", detail: "must be an object" }],
          }),
        ]);
      }
    },
  );
});

describe("an invalid configuration", () => {
  let errors: ReturnType<typeof vi.spyOn>;
  beforeEach(() => {
    errors = vi.spyOn(console, "error").mockImplementation(() => {});
  });
  afterEach(() => errors.mockRestore());

  test("is a 503 on every call, health included, and is logged once with all mistakes", async () => {
    const target = workerTarget({ RATE_LIMIT_CHAT_PER_MIN: "many", LIMITER_PLACEMENT: "everywhere" });
    for (const path of ["/healthz", "/v1/policies", "/v1/keys/user:u"]) {
      const response = await target.fetch(path, { headers: { Authorization: "Bearer admin-token" } });
      expect([response.status, response.headers.has("Retry-After")]).toEqual([503, true]);
      expect(await response.text()).not.toContain("many");
    }
    expect((await target.fetch("/nope")).status).toBe(404);
    expect((await target.fetch("/openapi.json")).status).toBe(200);
    expect(errors).toHaveBeenCalledTimes(1);
    expect(errors.mock.calls[0]?.[0]?.mistakes).toHaveLength(2);
  });

  test("without any tokens is a 503 on every call, whatever its token", async () => {
    const target = workerTarget({ LIMITER_TOKENS: "", LIMITER_ADMIN_TOKENS: " , " });
    for (const headers of [{}, { Authorization: "Bearer caller-token" }] as Record<string, string>[]) {
      const response = await target.fetch("/v1/policies", { headers });
      expect([response.status, response.headers.has("Retry-After")]).toEqual([503, true]);
    }
    expect((await target.fetch("/v1/policies", { method: "PUT" })).status).toBe(405);
    expect((await target.fetch("/healthz")).status).toBe(200);
  });

  test("with caller tokens only is a 403 on admin calls", async () => {
    const target = workerTarget({ LIMITER_ADMIN_TOKENS: "" });
    const headers = { Authorization: "Bearer caller-token" };
    expect((await target.fetch("/v1/policies", { headers })).status).toBe(200);
    expect((await target.fetch("/v1/keys/user:u", { headers })).status).toBe(403);
  });
});

test.each([undefined, "", "0"])("RATE_LIMIT_INLINE=%s allows no inline limits", async (inline) => {
  const caller = new Caller(workerTarget({ RATE_LIMIT_INLINE: inline }));
  const body = { layers: [{ name: "a", key: "k", limits: ["1/minute"] }], cost: 1 };
  for (const call of ["consume", "check", "settle", "release"])
    expect((await caller.post(`/v1/inline/${call}`, body)).status).toBe(403);
  expect((await caller.admin("/v1/inline/keys/k", { method: "DELETE" })).status).toBe(403);
});

test("tokens can be rotated: every token of a list is valid", async () => {
  const target = workerTarget({ LIMITER_TOKENS: "old , new", LIMITER_ADMIN_TOKENS: "root,new" });
  const statusOf = async (path: string, token: string) =>
    (await target.fetch(path, { headers: { Authorization: `Bearer ${token}` } })).status;
  expect(
    await Promise.all(["old", "new", "root", "old , new"].map((token) => statusOf("/v1/policies", token))),
  ).toEqual([200, 200, 200, 401]);
  expect(await Promise.all(["old", "new", "root"].map((token) => statusOf("/v1/keys/user:u", token)))).toEqual([
    403, 200, 200,
  ]);
});

test("an unexpected error is logged in full and answered generically", async () => {
  const errors = vi.spyOn(console, "error").mockImplementation(() => {});
  const decide = async () => JSON.stringify([{ verdict: { allowed: true } }]);
  const broken = workerTarget({ LIMITER_OBJECTS: { getByName: () => ({ decide }) } });
  const response = await new Caller(broken).post("/v1/consume", { policy: "chat", subject: newSubject() });
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({
    type: "about:blank",
    title: "Internal Server Error",
    status: 500,
    detail: "The service failed. Its log has the details.",
  });
  expect(String(errors.mock.calls[0]?.[0]?.error)).toContain("TypeError");
  errors.mockRestore();
});

test("variables may be numbers and tables, and set the address prefix", async () => {
  const target = workerTarget({
    RATE_LIMIT_CHAT_PER_MIN: 2,
    RATE_LIMIT_CHAT_IP_PER_MIN: "3",
    RATE_LIMIT_IPV6_PREFIX: "48",
    RATE_LIMIT_POLICIES: { once: { layers: [{ name: "all", by: ["team"], limits: ["1/day"] }] } },
  });
  const caller = new Caller(target);
  const { limits } = await caller.check("chat", { ip: "2001:db8:1:2::5" });
  expect(limits.map(({ key, limit }) => [key, limit])).toEqual([
    ["ip:2001:db8:1::/48", 2],
    ["ip:2001:db8:1::/48", 60],
    ["ip:2001:db8:1::/48", 3],
  ]);
  expect((await caller.admin(`/v1/keys/${encodeURIComponent("ip:2001:db8:1::/48")}`)).status).toBe(200);
  const team = `t_${crypto.randomUUID()}`;
  expect((await caller.consume("once", { team })).allowed).toBe(true);
  expect(await caller.consume("once", { team })).toMatchObject({ allowed: false, retry_after_seconds: 86_400 });
});
