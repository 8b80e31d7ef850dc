import { describe, expect, onTestFinished, test, vi } from "vitest";
import {
  InvalidRequestError,
  Limiter,
  type LimiterOptions,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
} from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, closedPort, hangs, problem, resets, startServer, trickles } from "./server";

const request = { policy: "chat", subject: { user: "u" } };
/** Ample, so that a test fails by what it judges and not by a machine that is busy. */
const AMPLE_MS = 30_000;

function limiterAt(url: string, options: Partial<LimiterOptions> = {}): Limiter {
  return new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, ...options });
}

const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

describe("a try without an answer is followed by another, with the same key:", () => {
  test.each<[string, Behaviour]>([
    ["a connection that is reset once the request has arrived", resets],
    ["500", problem(500, "The service failed.")],
    ["502 of a proxy", answers(502, "<html>Bad Gateway</html>")],
    ["503", answers(503, { status: 503, detail: "out of reach" }, { "Retry-After": "1" })],
    ["504 without a body", answers(504, "")],
    ["a page with status 200", answers(200, "<html>Log in to the network</html>")],
    ["JSON with status 200 that is no decision", answers(200, { allowed: true })],
    ["a decision cut short", answers(200, JSON.stringify(ADMITTED).slice(0, -1))],
    ["429 of a proxy", answers(429, "slow down", { "Retry-After": "3600" })],
    ["429 that admits", answers(429, ADMITTED)],
    ["403 of a firewall", answers(403, "<html>Forbidden</html>")],
    ["a redirect", answers(307, "", { Location: "/elsewhere" })],
  ])("%s", async (_, behaviour) => {
    const { url, received } = await startServer(behaviour, behaviour, answers(200, ADMITTED));
    const decision = await limiterAt(url).consume(request);
    expect(decision).toMatchObject({ allowed: true, degraded: false, error: undefined });
    expect(received).toHaveLength(3);
    expect(received[0]?.key).toMatch(/^"[0-9a-f]{32}"$/);
    expect(new Set(received.map(({ key }) => key)).size).toBe(1);
    expect(received.map(({ body }) => body)).toEqual([request, request, request]);
  });

  test.each<[string, Behaviour]>([
    ["silence", hangs],
    ["an answer that never ends", trickles],
  ])("%s, given up while time is left", async (_, behaviour) => {
    const { url, received } = await startServer(behaviour, answers(200, ADMITTED));
    const decision = await limiterAt(url, { deadlineMs: 3_000 }).consume({ ...request, idempotencyKey: "mine" });
    expect(decision.allowed).toBe(true);
    expect(received.map(({ key }) => key)).toEqual(['"mine"', '"mine"']);
  });

  test("which try it is is told of a key that was made up, and of no other", async () => {
    const { url, received } = await startServer(resets, answers(200, ADMITTED));
    const limiter = limiterAt(url);
    await limiter.consume(request);
    await limiter.consume({ ...request, idempotencyKey: "mine" });
    await limiter.check(request);
    expect(received.map(({ attempt }) => attempt)).toEqual(["1", "2", undefined, undefined]);
  });

  test("each consume has a key of its own, and a check has none", async () => {
    const { url, received } = await startServer(answers(200, ADMITTED));
    const limiter = limiterAt(url);
    await limiter.consume(request);
    await limiter.consume(request);
    await limiter.check(request);
    expect(new Set(received.map(({ key }) => key)).size).toBe(3);
    expect(received[2]?.key).toBeUndefined();
  });
});

describe.each<[string, () => Promise<string>]>([
  ["a host where nobody listens", closedPort],
  ["silence", async () => (await startServer(hangs)).url],
  ["an answer that never ends", async () => (await startServer(trickles)).url],
  ["nothing but 503", async () => (await startServer(problem(503, "out of reach"))).url],
  ["nothing but somebody else's pages", async () => (await startServer(answers(200, "<html>"))).url],
])("when the deadline has passed over %s", (_, urlOf) => {
  test("it is denied, as a value that can be handed on", async () => {
    const limiter = limiterAt(await urlOf(), { deadlineMs: 300 });
    for (const decision of [
      await limiter.consume({ ...request, cost: 3 }),
      await limiter.check({ ...request, cost: 3 }),
    ]) {
      expect(decision).toMatchObject({
        allowed: false,
        id: undefined,
        policy: "chat",
        cost: 3,
        replayed: false,
        degraded: true,
        retryAfterSeconds: 1,
        limits: [],
        headers: { "Retry-After": "1" },
        body: { status: 503, allowed: false, degraded: true, retry_after_seconds: 1 },
      });
      expect(decision.error).toBeInstanceOf(UnavailableError);
    }
  });

  test("it is allowed where the caller chose so, and a settle throws", async () => {
    const limiter = limiterAt(await urlOf(), { deadlineMs: 300, onError: "allow" });
    expect(await limiter.consume({ ...request, idempotencyKey: "mine" })).toMatchObject({
      allowed: true,
      id: "mine",
      degraded: true,
      retryAfterSeconds: null,
      headers: {},
      body: { allowed: true, id: "mine" },
    });
    expect(await limiter.check(request)).toMatchObject({ allowed: true, id: undefined, degraded: true });
    expect(await errorOf(limiter.settle({ ...request, id: "mine", cost: 0 }))).toBeInstanceOf(UnavailableError);
  });
});

test("the deadline holds for all tries together", async () => {
  const { url, received } = await startServer(hangs);
  const startedMs = performance.now();
  await limiterAt(url, { deadlineMs: 2_000 }).consume(request);
  expect(performance.now() - startedMs).toBeLessThan(20_000);
  expect(received.length).toBeGreaterThan(1);
});

test("a fetch that heeds no signal is not waited for", async () => {
  const limiter = limiterAt("http://limiter.test", { deadlineMs: 300, fetch: () => new Promise(() => {}) });
  expect(await limiter.consume(request)).toMatchObject({ allowed: false, degraded: true });
});

describe("a caller's signal", () => {
  test("ends a call under way with its reason, and no try follows", async () => {
    const controller = new AbortController();
    const reason = new Error("the page was closed");
    const { url, received } = await startServer(() => controller.abort(reason));
    const { signal } = controller;
    expect(await errorOf(limiterAt(url, { onError: "allow" }).consume({ ...request, signal }))).toBe(reason);
    expect(received).toHaveLength(1);
  });

  test("ends the pause between two tries", async () => {
    const controller = new AbortController();
    const { url, received } = await startServer((response) => {
      response.writeHead(503).end();
      response.on("close", () => controller.abort("enough"));
    });
    expect(await errorOf(limiterAt(url).check({ ...request, signal: controller.signal }))).toBe("enough");
    expect(received).toHaveLength(1);
  });

  test("that is aborted already sends nothing", async () => {
    const { url, received } = await startServer(answers(200, ADMITTED));
    const settled = limiterAt(url).settle({ ...request, id: "k", cost: 0, signal: AbortSignal.abort("no") });
    expect(await errorOf(settled)).toBe("no");
    expect(received).toHaveLength(0);
  });

  test("is left as it was: no listener stays behind", async () => {
    const { url } = await startServer(answers(503, ""), answers(200, ADMITTED));
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await limiterAt(url).consume({ ...request, signal });
    expect(added.mock.calls.length).toBeGreaterThan(0);
    expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(
      added.mock.calls.map(([, listener]) => listener),
    );
  });
});

describe("a refusal is told as an error, at once:", () => {
  test.each([
    [400, InvalidRequestError],
    [401, UnauthorizedError],
    [403, UnauthorizedError],
    [404, InvalidRequestError],
    [413, InvalidRequestError],
    [415, InvalidRequestError],
    [422, InvalidRequestError],
  ])("%i", async (status, kind) => {
    const { url, received } = await startServer(problem(status, "Because."));
    const error = await errorOf(limiterAt(url, { onError: "allow" }).consume(request));
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ name: kind.name, message: "Because." });
    expect(received).toHaveLength(1);
  });

  test("a settle's 404 is a decision that is not known, and so is a release's", async () => {
    const { url } = await startServer(problem(404, "There is no such decision."));
    const limiter = limiterAt(url);
    for (const change of [limiter.settle({ ...request, id: "k", cost: 0 }), limiter.release({ ...request, id: "k" })]) {
      const error = await errorOf(change);
      expect(error).toBeInstanceOf(UnknownDecisionError);
      expect(error).toMatchObject({ message: "There is no such decision." });
    }
  });

  test("a settle's 404 that points at the policy is an invalid request, and so is a release's", async () => {
    const errors = [{ pointer: "/policy", detail: "names no policy in force" }];
    const { url } = await startServer(problem(404, "There is none.", errors));
    const limiter = limiterAt(url);
    for (const change of [limiter.settle({ ...request, id: "k", cost: 0 }), limiter.release({ ...request, id: "k" })])
      expect(await errorOf(change)).toMatchObject({ name: "InvalidRequestError", status: 404, errors });
  });

  test("a release that was not acknowledged is none", async () => {
    const { url } = await startServer(answers(200, { ...ADMITTED, id: "k" }));
    const limiter = limiterAt(url, { deadlineMs: 50 });
    expect(await errorOf(limiter.release({ ...request, id: "k" }))).toBeInstanceOf(UnavailableError);
  });

  test.each(["", "no spaces", "newline\n", "ü", "x".repeat(129)])("the key %j, before it is sent", async (key) => {
    const error = await errorOf(limiterAt("http://limiter.test").consume({ ...request, idempotencyKey: key }));
    expect(error).toBeInstanceOf(InvalidRequestError);
    expect(error).toMatchObject({ status: 400, errors: [{ pointer: "/idempotency_key" }] });
  });
});

test("an address that is none, and a token that no header can carry, are told when the limiter is made", () => {
  expect(() => limiterAt("limiter.example")).toThrow(TypeError);
  expect(() => limiterAt("http://limiter.test", { token: "two\nlines" })).toThrow(TypeError);
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])(
  "a deadline of %s ms, which no timer can keep, is refused",
  (ms) => {
    expect(() => limiterAt("http://limiter.test", { deadlineMs: ms })).toThrow(RangeError);
  },
);

test("the service may be mounted at a path, with a slash at its end or none", async () => {
  const asked: string[] = [];
  const fetch = async (url: string) => {
    asked.push(url);
    return Response.json(ADMITTED);
  };
  for (const url of ["http://limiter.test", "http://limiter.test/", "http://limiter.test/a/b//"])
    await limiterAt(url, { fetch }).consume(request);
  expect(asked).toEqual([
    "http://limiter.test/v1/consume",
    "http://limiter.test/v1/consume",
    "http://limiter.test/a/b/v1/consume",
  ]);
});

test("every answer is read to its end, so that its connection can be used again", async () => {
  const { url, sockets } = await startServer(problem(400, "No."), answers(503, "out of reach"), answers(200, ADMITTED));
  const limiter = limiterAt(url);
  await errorOf(limiter.consume(request));
  for (let i = 0; i < 20; i++) await limiter.consume(request);
  // Not one, for an answer may be read a moment before its connection is free.
  expect(sockets.size).toBeLessThan(10);
});

test("the global fetch is the one at the time of the call, called as a function of its own", async () => {
  const limiter = limiterAt("http://limiter.test");
  vi.stubGlobal("fetch", async () => Response.json(ADMITTED));
  onTestFinished(() => void vi.unstubAllGlobals());
  expect((await limiter.consume(request)).allowed).toBe(true);
});
