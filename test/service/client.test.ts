import { afterAll, describe, expect, test } from "vitest";
import {
  InvalidRequestError,
  Limiter,
  type Transport,
  UnauthorizedError,
  UnknownDecisionError,
} from "../../src/client/index.js";
import { ServiceProcess } from "../../tools/service-process";
import { newSubject } from "../behaviour/target";
import { variables } from "./service";

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));
const limiterOver = (transport: Transport) =>
  new Limiter({ url: service.url, token: "caller-token", deadlineMs: 30_000, transport, log: () => {} });
const strangerThat = (onError: "deny" | "allow", transport: Transport) =>
  new Limiter({ url: service.url, token: "stranger", deadlineMs: 30_000, onError, transport, log: () => {} });
const kinds = [
  ["over http", limiterOver("http")],
  ["over a session", limiterOver("session")],
  ["by its defaults", limiterOver("auto")],
] as const;

const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

describe.each(kinds)("the client %s", (_, limiter) => {
  test("returns an admission with all fields of the reply", async () => {
    const subject = newSubject();
    const decision = await limiter.consume({ policy: "chat", subject, idempotencyKey: "first" });
    expect(decision).toEqual({
      allowed: true,
      id: "first",
      policy: "chat",
      cost: 1,
      replayed: false,
      degraded: false,
      retryAfterSeconds: null,
      shadow: false,
      wouldDeny: false,
      limits: [
        {
          layer: "caller",
          key: `user:${subject.user}`,
          limit: 5,
          windowSeconds: 60,
          concurrent: false,
          used: 1,
          remaining: 4,
          resetSeconds: 60,
          shadow: false,
        },
        expect.objectContaining({ windowSeconds: 3_600, remaining: 59, resetSeconds: 3_600 }),
        expect.objectContaining({ layer: "ip", remaining: 29 }),
      ],
      headers: {
        "RateLimit-Policy": '"caller/60s";q=5;w=60, "caller/3600s";q=60;w=3600, "ip/60s";q=30;w=60',
        RateLimit: '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60',
      },
      body: expect.objectContaining({ allowed: true, id: "first", retry_after_seconds: null }),
      error: undefined,
    });
  });

  test("decides, replays and settles a cost by layer", async () => {
    const about = { policy: "llm", subject: { user: newSubject().user, org: "acme" } };
    const request = { ...about, cost: { tokens: 400, budget: 0 }, idempotencyKey: "llm" };
    const decision = await limiter.consume(request);
    expect([decision.cost, decision.limits.map(({ used }) => used).slice(0, 2)]).toEqual([
      { requests: 1, tokens: 400, budget: 0 },
      [1, 400],
    ]);
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, replayed: true });
    expect(await limiter.check({ ...about, cost: { requests: 0, tokens: 601, budget: 0 } })).toMatchObject({
      allowed: false,
      retryAfterSeconds: expect.any(Number),
    });
    expect(await errorOf(limiter.consume({ ...request, cost: { tokens: 401, budget: 0 } }))).toMatchObject({
      status: 422,
    });
    const mistaken = await errorOf(limiter.consume({ ...about, cost: { token: 1 } }));
    expect(mistaken).toMatchObject({ status: 400, errors: [{ pointer: "/cost/token" }] });
    const settled = await limiter.settle({ ...about, id: "llm", cost: { tokens: 30 } });
    expect([settled.cost, settled.limits[1]?.used]).toEqual([{ tokens: 30 }, 30]);
  });

  test("says what layers in shadow would have denied", async () => {
    const request = { policy: "trial", subject: newSubject(), cost: 2 };
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, shadow: true, wouldDeny: false });
    expect(await limiter.consume(request)).toMatchObject({
      allowed: true,
      shadow: true,
      wouldDeny: true,
      limits: [
        { layer: "ip", used: 2, shadow: true },
        { layer: "caller", used: 4, shadow: false },
      ],
    });
  });

  test("returns a denial as a value, with headers and a body to pass on", async () => {
    const subject = newSubject();
    await limiter.consume({ policy: "chat", subject, cost: 5 });
    const decision = await limiter.consume({ policy: "chat", subject });
    expect(decision).toMatchObject({ allowed: false, id: undefined, degraded: false, error: undefined });
    const { retryAfterSeconds, headers, body } = decision;
    expect(retryAfterSeconds).toBeGreaterThan(0);
    expect(headers["Retry-After"]).toBe(String(retryAfterSeconds));
    expect(headers.RateLimit).toContain('"caller/60s";r=0');
    expect(body).toMatchObject({ status: 429, title: "Quota Exceeded", "violated-policies": ["caller/60s"] });
    expect(await limiter.check({ policy: "chat", subject })).toMatchObject({ allowed: false, cost: 1 });
  });

  test("checks without recording anything", async () => {
    const subject = newSubject();
    for (let i = 0; i < 2; i++) {
      const { allowed, id, limits } = await limiter.check({ policy: "chat", subject, cost: 5 });
      expect([allowed, id, limits[0]?.used]).toEqual([true, undefined, 0]);
    }
  });

  test("is charged once for a key, and can settle it by the decision's id", async () => {
    const request = { policy: "chat", subject: newSubject(), cost: 3, idempotencyKey: "again" };
    expect(await limiter.consume(request)).toMatchObject({ id: "again", replayed: false });
    const { id = "", replayed, limits } = await limiter.consume(request);
    expect([id, replayed, limits[0]?.used]).toEqual(["again", true, 3]);
    const { policy, subject } = request;
    const settlement = await limiter.settle({ policy, subject, id, cost: 1 });
    expect(settlement).toMatchObject({
      id: "again",
      policy: "chat",
      cost: 1,
      limits: [{ used: 1, windowSeconds: 60 }, {}, {}],
    });
  });

  test("releases a consume, which makes room for another", async () => {
    const request = { policy: "jobs", subject: newSubject() };
    const { id = "", limits } = await limiter.consume(request);
    expect(limits).toMatchObject([{ concurrent: true, used: 1, remaining: 1 }, { concurrent: false }, {}]);
    await limiter.consume(request);
    expect((await limiter.consume(request)).allowed).toBe(false);
    for (let i = 0; i < 2; i++)
      expect(await limiter.release({ ...request, id })).toMatchObject({
        id,
        policy: "jobs",
        limits: [{ used: 1 }, { used: 2 }, { used: 1 }],
      });
    expect((await limiter.consume(request)).allowed).toBe(true);
  });

  test("takes absent attributes", async () => {
    const { ip } = newSubject();
    const { limits } = await limiter.check({ policy: "chat", subject: { user: undefined, ip } });
    expect(limits.map(({ key }) => key)).toEqual([`ip:${ip}`, `ip:${ip}`, `ip:${ip}`]);
  });
});

describe.each(kinds)("the client %s throws a refusal of the service", (_, limiter) => {
  test("with every mistake of a malformed request", async () => {
    const error = await errorOf(limiter.consume({ policy: "chat", subject: { ip: "nowhere" }, cost: 0 }));
    expect(error).toBeInstanceOf(InvalidRequestError);
    const { status, errors, message } = error as InvalidRequestError;
    expect([status, errors.map(({ pointer }) => pointer)]).toEqual([400, ["/cost", "/subject/ip"]]);
    expect(message).toContain("/subject/ip: ");
  });

  test("for a cost that never fits, and for a reused key", async () => {
    const request = { policy: "chat", subject: newSubject(), idempotencyKey: "once" };
    await limiter.consume(request);
    const errors = [
      await errorOf(limiter.check({ ...request, cost: 6 })),
      await errorOf(limiter.consume({ ...request, cost: 2 })),
    ];
    for (const error of errors) expect(error).toBeInstanceOf(InvalidRequestError);
    expect(errors.map((error) => (error as InvalidRequestError).status)).toEqual([422, 422]);
  });

  test.each([
    ["an unknown decision", "chat", UnknownDecisionError],
    ["an unknown policy", "nope", InvalidRequestError],
  ])("for a settle or a release by %s", async (_, policy, kind) => {
    const request = { policy, subject: newSubject(), id: "never", cost: 0 };
    for (const change of [() => limiter.settle(request), () => limiter.release(request)])
      expect(await errorOf(change())).toBeInstanceOf(kind);
  });

  test("for an idempotency key, with the client's own message", async () => {
    const request = { policy: "chat", subject: newSubject() };
    const response = await service.fetch("/v1/consume", {
      method: "POST",
      headers: {
        Authorization: "Bearer caller-token",
        "Content-Type": "application/json",
        "Idempotency-Key": "no spaces",
      },
      body: JSON.stringify(request),
    });
    const { errors } = (await response.json()) as { errors: unknown };
    expect(await errorOf(limiter.consume({ ...request, idempotencyKey: "no spaces" }))).toMatchObject({ errors });
  });
});

describe.each([
  ["http", kinds[0][1]],
  ["session", kinds[1][1]],
  ["auto", kinds[2][1]],
] as const)("onError decides for a client over %s", (transport, limiter) => {
  const request = () => ({ policy: "chat", subject: newSubject() });

  test("whose token is not in force, and ready throws", async () => {
    for (const onError of ["allow", "deny"] as const) {
      const stranger = strangerThat(onError, transport);
      for (const decision of [await stranger.consume(request()), await stranger.check(request())]) {
        expect(decision).toMatchObject({ allowed: onError === "allow", degraded: true });
        expect(decision.error).toBeInstanceOf(UnauthorizedError);
      }
      await expect(stranger.ready()).rejects.toThrow("The token is not in force");
    }
  });

  test("whose policy is unknown, and ready throws", async () => {
    const nope = { policy: "nope", subject: newSubject() };
    for (const decision of [await limiter.consume(nope), await limiter.check(nope)]) {
      expect(decision).toMatchObject({ allowed: false, degraded: true });
      expect(decision.error).toBeInstanceOf(InvalidRequestError);
    }
    await limiter.ready({ policies: ["chat", "jobs"] });
    await expect(limiter.ready({ policies: ["chat", "nope"] })).rejects.toThrow('"nope"');
  });
});

describe.each(kinds)("giving back by a client %s", (_, limiter) => {
  test("works after a stream was cut off, and lets its user in again", async () => {
    const request = { policy: "jobs", subject: newSubject() };
    for (let stops = 0; stops < 4; stops++) {
      const { allowed, id = "" } = await limiter.consume(request);
      expect(allowed).toBe(true);
      const signal = AbortSignal.abort("Stop");
      await expect(limiter.release({ ...request, id, signal })).rejects.toBe("Stop");
      await expect.poll(async () => (await limiter.check(request)).limits[0]?.used, { timeout: 30_000 }).toBe(0);
    }
  });
});

test("a consume that is admitted and cancelled before the answer takes no place", async () => {
  const request = { policy: "jobs", subject: newSubject() };
  const controller = new AbortController();
  const fetch: typeof globalThis.fetch = async (url, init) => {
    const response = await globalThis.fetch(url, { ...init, signal: null });
    if (controller.signal.aborted) return response;
    expect(response.status).toBe(200);
    controller.abort("Stop");
    return new Promise(() => {});
  };
  const limiter = new Limiter({ url: service.url, token: "caller-token", deadlineMs: 30_000, fetch });
  await expect(limiter.consume({ ...request, signal: controller.signal })).rejects.toBe("Stop");
  const used = async () => (await limiter.check(request)).limits.map(({ used }) => used);
  await expect.poll(used, { timeout: 30_000 }).toEqual([0, 0, 0]);
});
