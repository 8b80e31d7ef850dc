import { inspect } from "node:util";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import {
  type Fetch,
  InvalidRequestError,
  Limiter,
  type LimiterOptions,
  type Transport,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
} from "../../src/client/index.js";
import {
  ADMITTED,
  answers,
  type Behaviour,
  closedPort,
  hangs,
  problem,
  resets,
  startServer,
  TRANSPORTS,
  trickles,
} from "./server";

const request = { policy: "chat", subject: { user: "u" } };
const keyed = { ...request, idempotencyKey: "mine" };
/** Long, so that no test fails on a busy machine. */
const AMPLE_MS = 30_000;

const limiterOver =
  (transport: Transport) =>
  (url: string, options: Partial<LimiterOptions> = {}): Limiter =>
    new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, log: () => {}, transport, ...options });
const limiterAt = limiterOver("http");

const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

describe.each(TRANSPORTS)("over %s,", (transport) => {
  const limiterAt = limiterOver(transport);

  describe("retries with the same key after", () => {
    test.each<[string, Behaviour]>([
      ["a connection that is reset once the request has arrived", resets],
      ["500", problem(500, "The service failed.")],
      ["502 of a proxy", answers(502, "<html>Bad Gateway</html>")],
      ["503", answers(503, { status: 503, detail: "out of reach" }, { "Retry-After": "1" })],
      ["504 without a body", answers(504, "")],
      ["a page with status 200", answers(200, "<html>Log in to the network</html>")],
      ["JSON with status 200 that is no decision", answers(200, { allowed: true })],
      ["a decision cut short", answers(200, JSON.stringify(ADMITTED).slice(0, -1))],
      ["a decision whose cost is no cost", answers(200, { ...ADMITTED, cost: { tokens: "1" } })],
      ["429 of a proxy", answers(429, "slow down", { "Retry-After": "3600" })],
      ["429 that admits", answers(429, ADMITTED)],
      [
        "200 that denies a consume",
        answers(200, { ...ADMITTED, allowed: false, id: undefined, retry_after_seconds: 1 }),
      ],
      ["a decision without limits", answers(200, { ...ADMITTED, limits: [] })],
      ["a denial without limits", answers(429, { ...ADMITTED, allowed: false, retry_after_seconds: 1, limits: [] })],
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
      ["a timeout", hangs],
      ["an answer that never ends", trickles],
    ])("%s, aborted while time is left", async (_, behaviour) => {
      const { url, received } = await startServer(behaviour, answers(200, ADMITTED));
      const decision = await limiterAt(url, { deadlineMs: 3_000 }).consume({ ...request, idempotencyKey: "mine" });
      expect(decision.allowed).toBe(true);
      expect(received.map(({ key }) => key)).toEqual(['"mine"', '"mine"']);
    });

    test("sends the attempt number of a generated key, and of no other key", async () => {
      const { url, received } = await startServer(resets, answers(200, ADMITTED));
      const limiter = limiterAt(url);
      await limiter.consume(request);
      await limiter.consume({ ...request, idempotencyKey: "mine" });
      await limiter.check(request);
      expect(received.map(({ attempt }) => attempt)).toEqual(["1", "2", undefined, undefined]);
    });

    test("sends a new key with each consume, and none with a check", async () => {
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
    ["timeouts", async () => (await startServer(hangs)).url],
    ["an answer that never ends", async () => (await startServer(trickles)).url],
    ["nothing but 503", async () => (await startServer(problem(503, "out of reach"))).url],
    ["nothing but somebody else's pages", async () => (await startServer(answers(200, "<html>"))).url],
  ])("after a deadline without an answer, because of %s,", (_, urlOf) => {
    test("a consume is denied, with a value that can be passed on", async () => {
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

    test('a consume is allowed with onError: "allow", and a settle throws', async () => {
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

  test.each<[string, object]>([
    ["degraded", { degraded: true }],
    ["of a policy whose layers are all in shadow and unreachable", { shadow: true, would_deny: false }],
  ])("accepts a decision without limits if it is %s", async (_, fields) => {
    const { url, received } = await startServer(answers(200, { ...ADMITTED, ...fields, limits: [] }));
    expect(await limiterAt(url).consume(request)).toMatchObject({ allowed: true, limits: [], error: undefined });
    expect(received).toHaveLength(1);
  });

  test("accepts only status 200 for a check", async () => {
    const denial = { ...ADMITTED, allowed: false, id: undefined, retry_after_seconds: 1 };
    const { url, received } = await startServer(answers(429, denial), answers(200, denial));
    expect(await limiterAt(url).check(request)).toMatchObject({ allowed: false, degraded: false });
    expect(received).toHaveLength(2);
  });

  test("the deadline holds for all attempts together", async () => {
    const { url, received } = await startServer(hangs);
    const startedMs = performance.now();
    await limiterAt(url, { deadlineMs: 2_000 }).consume(request);
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(received.length).toBeGreaterThan(1);
  });

  describe("a caller's signal", () => {
    test.each<[string, (limiter: Limiter, signal: AbortSignal) => Promise<unknown>]>([
      ["check", (limiter, signal) => limiter.check({ ...request, signal })],
      ["consume with a key of the caller's own", (limiter, signal) => limiter.consume({ ...keyed, signal })],
    ])("ends a %s in flight with its reason, without another attempt", async (_, call) => {
      const controller = new AbortController();
      const reason = new Error("the page was closed");
      const { url, received } = await startServer(() => controller.abort(reason), answers(200, ADMITTED));
      const limiter = limiterAt(url, { onError: "allow" });
      expect(await errorOf(call(limiter, controller.signal))).toBe(reason);
      expect(received).toHaveLength(1);
      await limiter.check(request);
      expect(received).toHaveLength(2);
    });

    test("ends the pause between two attempts", async () => {
      const controller = new AbortController();
      const { url, received } = await startServer((response) => {
        response.writeHead(503).end();
        response.on("close", () => controller.abort("enough"));
      });
      expect(await errorOf(limiterAt(url).check({ ...request, signal: controller.signal }))).toBe("enough");
      expect(received).toHaveLength(1);
    });

    test("sends nothing if it is aborted already", async () => {
      const { url, received } = await startServer(answers(200, ADMITTED));
      const signal = AbortSignal.abort("no");
      const limiter = limiterAt(url);
      for (const call of [limiter.consume({ ...request, signal }), limiter.check({ ...request, signal })])
        expect(await errorOf(call)).toBe("no");
      expect(received).toHaveLength(0);
    });

    test("keeps no listener after the call", async () => {
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

  describe("throws a refusal at once:", () => {
    const settling = { ...request, id: "k", cost: 0 };

    test.each([
      [400, InvalidRequestError],
      [413, InvalidRequestError],
      [415, InvalidRequestError],
      [422, InvalidRequestError],
    ])("%i", async (status, kind) => {
      const { url, received } = await startServer(problem(status, "Because."));
      const limiter = limiterAt(url, { onError: "allow" });
      for (const call of [limiter.consume(request), limiter.check(request), limiter.settle(settling)]) {
        const error = await errorOf(call);
        expect(error).toBeInstanceOf(kind);
        expect(error).toMatchObject({ name: kind.name, message: "Because." });
      }
      expect(received).toHaveLength(3);
    });

    test.each([401, 403])("%i, for a settle and a release", async (status) => {
      const { url, received } = await startServer(problem(status, "Because."));
      const limiter = limiterAt(url, { onError: "allow" });
      for (const call of [limiter.settle(settling), limiter.release(settling)]) {
        const error = await errorOf(call);
        expect(error).toBeInstanceOf(UnauthorizedError);
        expect(error).toMatchObject({ name: "UnauthorizedError", message: "Because." });
      }
      expect(received).toHaveLength(2);
    });

    test("throws UnknownDecisionError for the 404 of a settle or a release", async () => {
      const { url } = await startServer(problem(404, "There is no such decision."));
      const limiter = limiterAt(url);
      for (const change of [
        limiter.settle({ ...request, id: "k", cost: 0 }),
        limiter.release({ ...request, id: "k" }),
      ]) {
        const error = await errorOf(change);
        expect(error).toBeInstanceOf(UnknownDecisionError);
        expect(error).toMatchObject({ message: "There is no such decision." });
      }
    });

    test("throws UnknownPolicyError for the 404 of a settle or a release that points at the policy", async () => {
      const errors = [{ pointer: "/policy", detail: "must name a policy in force" }];
      const { url } = await startServer(problem(404, "There is none.", errors));
      const limiter = limiterAt(url);
      for (const change of [limiter.settle({ ...request, id: "k", cost: 0 }), limiter.release({ ...request, id: "k" })])
        expect(await errorOf(change)).toMatchObject({
          name: "UnknownPolicyError",
          status: 404,
          policies: ["chat"],
          errors,
        });
    });

    test("rejects a reply that does not acknowledge the release", async () => {
      const { url } = await startServer(answers(200, { ...ADMITTED, id: "k" }));
      const limiter = limiterAt(url, { deadlineMs: 50 });
      expect(await errorOf(limiter.release({ ...request, id: "k" }))).toBeInstanceOf(UnavailableError);
    });

    test.each(["", "no spaces", "newline\n", "ü", "x".repeat(129)])(
      "refuses the key %j before it is sent",
      async (key) => {
        const error = await errorOf(limiterAt("http://limiter.test").consume({ ...request, idempotencyKey: key }));
        expect(error).toBeInstanceOf(InvalidRequestError);
        expect(error).toMatchObject({ status: 400, errors: [{ pointer: "/idempotency_key" }] });
      },
    );
  });

  describe("attributes of a subject:", () => {
    test("whole numbers and BigInts are sent as their digits, in every call", async () => {
      const limits = ADMITTED.limits.map((limit) => ({ ...limit, key: "user:9007199254740993" }));
      const { url, received } = await startServer(answers(200, { ...ADMITTED, released: true, cost: 0, limits }));
      const limiter = limiterAt(url);
      const named = { policy: "chat", subject: { user: 9_007_199_254_740_993n, team: 7, ip: null } };
      await limiter.consume(named);
      await limiter.check(named);
      await limiter.settle({ ...named, id: "k", cost: 0 });
      await limiter.release({ ...named, id: "k" });
      const subjects = received.map(({ body }) => (body as { subject: unknown }).subject);
      expect(subjects).toEqual(Array(4).fill({ user: "9007199254740993", team: "7", ip: null }));
    });

    test.each([1.5, Number.NaN, 2 ** 53, true, { id: 1 }, Symbol("u"), ["u"]])(
      "%s throws a TypeError that names the attribute",
      async (user) => {
        const request = { policy: "chat", subject: { user: user as unknown as string } };
        const limiter = limiterAt("http://limiter.test", { onError: "allow" });
        for (const call of [limiter.consume(request), limiter.settle({ ...request, id: "k", cost: 0 })]) {
          const error = await errorOf(call);
          expect(error).toBeInstanceOf(TypeError);
          expect(error).toMatchObject({ message: expect.stringMatching(/^subject\.user is /) });
        }
      },
    );
  });

  describe("rejects a reply about", () => {
    const limitOf = (key: string) => [{ ...ADMITTED.limits[0], key }];
    const request = { policy: "chat", subject: { user: " u ", ip: "203.0.113.7" } };

    test.each<[string, object]>([
      ["another policy", { policy: "upload" }],
      ["another user", { limits: limitOf("user:v") }],
      ["another address", { limits: limitOf("ip:203.0.113.8") }],
      ["an attribute that was not sent", { limits: limitOf("org:o") }],
      ["an attribute that every object has", { limits: limitOf("constructor:u") }],
    ])("%s", async (_, other) => {
      const { url, received } = await startServer(
        answers(200, { ...ADMITTED, ...other }),
        answers(200, ADMITTED),
        answers(200, { ...ADMITTED, ...other, released: true }),
      );
      const limiter = limiterAt(url);
      expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: false });
      expect(received).toHaveLength(2);
      const settling = limiterAt(url, { deadlineMs: 50 }).settle({ ...request, id: "k", cost: 0 });
      expect(await errorOf(settling)).toBeInstanceOf(UnavailableError);
    });

    test("another decision, to a settle or a release", async () => {
      const { url } = await startServer(answers(200, { ...ADMITTED, released: true }));
      const limiter = limiterAt(url, { deadlineMs: 50 });
      const other = { ...request, id: "l", cost: 1 };
      for (const change of [() => limiter.settle(other), () => limiter.release(other)])
        expect(await errorOf(change())).toBeInstanceOf(UnavailableError);
    });

    test.each([
      ["ip:203.0.113.7", "::ffff:203.0.113.7"],
      ["ip:2001:db8:1:2::/64", "2001:db8:1:2:3::4"],
    ])("accepts %s as the normal form of %s", async (key, ip) => {
      const { url } = await startServer(answers(200, { ...ADMITTED, limits: limitOf(key) }));
      expect(await limiterAt(url).consume({ policy: "chat", subject: { ip } })).toMatchObject({ degraded: false });
    });
  });
});

test("does not wait for a fetch that ignores its signal", async () => {
  const limiter = limiterAt("http://limiter.test", { deadlineMs: 300, fetch: () => new Promise(() => {}) });
  expect(await limiter.consume(request)).toMatchObject({ allowed: false, degraded: true });
});

test.each([
  "limiter.example",
  "ftp://limiter.test",
  "localhost:8787",
  "file:///limiter",
  "https://user@limiter.test",
  "https://user:secret@limiter.test",
  "https://limiter.test/?a=1",
  "https://limiter.test/#a",
])("the constructor refuses the URL %s", (url) => {
  expect(() => limiterAt(url)).toThrow(TypeError);
  expect(() => limiterAt(url)).not.toThrow("secret");
});

test.each(["https://user:secret@limiter test", "https://user:secret@limiter.test:port", "user:secret@limiter.test"])(
  "the error about the URL %s contains no password",
  async (url) => {
    const error = await errorOf((async () => limiterAt(url))());
    expect(error).toBeInstanceOf(TypeError);
    expect(error).toMatchObject({ message: expect.stringMatching(/^url /) });
    expect(inspect(error, { showHidden: true, depth: 5 }).replaceAll(String((error as Error).stack), "")).not.toContain(
      "secret",
    );
  },
);

test.each([undefined, null, "", "  ", "two\nlines", "two words", "ü"])(
  "the constructor refuses the token %j, and its error does not contain it",
  (token) => {
    expect(() => limiterAt("http://limiter.test", { token: token as string })).toThrow(/^token (is|must)/);
    expect(() => limiterAt("http://limiter.test", { token: token as string })).not.toThrow("two");
  },
);

test("the constructor refuses an onError that is neither deny nor allow", () => {
  expect(() => limiterAt("http://limiter.test", { onError: "alow" as "allow" })).toThrow(TypeError);
});

test("the constructor refuses an unknown transport", () => {
  expect(() => limiterAt("http://limiter.test", { transport: "websocket" as "http" })).toThrow(TypeError);
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])(
  "the constructor refuses a deadline of %s ms",
  (ms) => {
    expect(() => limiterAt("http://limiter.test", { deadlineMs: ms })).toThrow(RangeError);
  },
);

test("takes a URL with a path, with or without a slash at its end", async () => {
  const urls: string[] = [];
  const fetch = async (url: string) => {
    urls.push(url);
    return Response.json(ADMITTED);
  };
  for (const url of ["http://limiter.test", "http://limiter.test/", "http://limiter.test/a/b//"])
    await limiterAt(url, { fetch }).consume(request);
  expect(urls).toEqual([
    "http://limiter.test/v1/consume",
    "http://limiter.test/v1/consume",
    "http://limiter.test/a/b/v1/consume",
  ]);
});

test("reads every response to its end, so that the connection can be reused", async () => {
  const { url, sockets } = await startServer(problem(400, "No."), answers(503, "out of reach"), answers(200, ADMITTED));
  const limiter = limiterAt(url);
  await errorOf(limiter.consume(request));
  for (let i = 0; i < 20; i++) await limiter.consume(request);
  // More than one: a response may be read a moment before its connection is free.
  expect(sockets.size).toBeLessThan(10);
});

test.each<[string, Fetch]>([
  [
    "throws",
    () => {
      throw new Error("no network here");
    },
  ],
  ["rejects", () => Promise.reject(new Error("no network here"))],
])("a fetch that %s is an outage, whose error says why", async (_, fetch) => {
  const limiter = limiterAt("http://limiter.test", { deadlineMs: 200, fetch });
  const decision = await limiter.consume(request);
  expect(decision).toMatchObject({ allowed: false, degraded: true, error: expect.any(UnavailableError) });
  expect(decision.error?.message).toBe("http://limiter.test/v1/consume can't be reached: no network here");
});

describe("a fetch whose error has endless causes is an outage:", () => {
  const first = new Error("first");
  const second = new Error("second", { cause: first });
  first.cause = second;
  const own = new Error("boom");
  own.cause = own;

  test.each([
    ["its own cause", own, "boom"],
    ["a circle of causes", first, "first"],
    ["an object without any text", Object.create(null), "no reason was given"],
  ])("%s", async (_, thrown, why) => {
    const fetch = () => Promise.reject(thrown);
    const decision = await limiterAt("http://limiter.test", { deadlineMs: 200, fetch }).consume(request);
    expect(decision).toMatchObject({ allowed: false, degraded: true, error: expect.any(UnavailableError) });
    expect(decision.error?.message).toBe(`http://limiter.test/v1/consume can't be reached: ${why}`);
  });
});

test("calls the global fetch of the moment, as a plain function", async () => {
  const limiter = limiterAt("http://limiter.test");
  vi.stubGlobal("fetch", async () => Response.json(ADMITTED));
  onTestFinished(() => void vi.unstubAllGlobals());
  expect((await limiter.consume(request)).allowed).toBe(true);
});
