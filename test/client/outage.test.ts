import { describe, expect, test, vi } from "vitest";
import {
  type Decision,
  Limiter,
  type LimiterOptions,
  type Transport,
  UnauthorizedError,
  UnavailableError,
  UnknownPolicyError,
} from "../../src/client/index.js";
import {
  answers,
  type Behaviour,
  closedPort,
  hangs,
  problem,
  serves,
  startServer,
  startServerAt,
  TRANSPORTS,
} from "./server";

const AMPLE_MS = 30_000;
const request = { policy: "chat", subject: { user: "u" } };
const UNKNOWN_POLICY = problem(404, "There is no such policy.", [
  { pointer: "/policy", detail: "must name a policy in force" },
]);

const limiterOver =
  (transport: Transport) =>
  (url: string, options: Partial<LimiterOptions> = {}): Limiter =>
    new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, log: () => {}, transport, ...options });
const limiterAt = limiterOver("http");

describe.each(TRANSPORTS)(
  "a wrong configuration is an outage, in which onError decides at once over %s:",
  (transport) => {
    const limiterAt = limiterOver(transport);
    const mistakes: [string, Behaviour, object, string][] = [
      ["a token that is refused", problem(401, "No."), UnauthorizedError, "The limiter refuses the token."],
      ["a policy that there is not", UNKNOWN_POLICY, UnknownPolicyError, 'The limiter has no policy "chat".'],
    ];

    test.each(mistakes)("%s denies", async (_, behaviour, kind) => {
      const { url, received } = await startServer(behaviour);
      const limiter = limiterAt(url);
      for (const decision of [await limiter.consume(request), await limiter.check(request)])
        expect(decision).toMatchObject({
          allowed: false,
          degraded: true,
          retryAfterSeconds: 1,
          body: { status: 503 },
          error: expect.any(kind),
        });
      expect(received).toHaveLength(2);
    });

    test.each(mistakes)('%s allows with onError: "allow"', async (_, behaviour) => {
      const limiter = limiterAt((await startServer(behaviour)).url, { onError: "allow" });
      expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: true });
      expect(await limiter.check(request)).toMatchObject({ allowed: true, degraded: true });
    });

    test.each(mistakes)('%s is thrown with onError: "throw", and not logged', async (_, behaviour, kind) => {
      const log = vi.fn();
      const limiter = limiterAt((await startServer(behaviour)).url, { onError: "throw", log });
      await expect(limiter.consume(request)).rejects.toBeInstanceOf(kind);
      await expect(limiter.check(request)).rejects.toBeInstanceOf(kind);
      expect(log).not.toHaveBeenCalled();
    });

    test.each(mistakes)("%s admits without an id: nothing was recorded that could be settled", async (_, behaviour) => {
      const limiter = limiterAt((await startServer(behaviour)).url, { onError: "allow" });
      for (const key of [{}, { idempotencyKey: "mine" }]) {
        const { allowed, id, body } = await limiter.consume({ ...request, ...key });
        expect([allowed, id, body.id]).toEqual([true, undefined, undefined]);
      }
    });

    test.each(mistakes)("%s is logged once, not once per request", async (_, behaviour, kind, words) => {
      const log = vi.fn();
      const limiter = limiterAt((await startServer(behaviour)).url, { log });
      for (let i = 0; i < 5; i++) await limiter.consume(request);
      expect(log.mock.calls).toEqual([[`${words} "deny" is decided.`, expect.any(kind)]]);
    });
  },
);

test("a decision of the service is no outage: a cost above the limit is never allowed", async () => {
  const { url } = await startServer(problem(422, 'A cost of 6 can never be admitted: policy "chat" admits at most 5.'));
  for (const onError of ["allow", "deny"] as const)
    await expect(limiterAt(url, { onError }).consume({ ...request, cost: 6 })).rejects.toThrow("can never be admitted");
});

describe("ready", () => {
  const policies = answers(200, { policies: [{ name: "chat" }, { name: "upload" }] });

  test("passes if the token and the policies are in force", async () => {
    const { url, received } = await startServer(policies);
    await limiterAt(url).ready();
    await limiterAt(url).ready({ policies: ["upload", "chat"] });
    expect(received.map(({ path }) => path)).toEqual(["/v1/policies", "/v1/policies"]);
  });

  test("throws and names the policies that are not in force", async () => {
    const { url } = await startServer(policies);
    const ready = limiterAt(url, { onError: "allow" }).ready({ policies: ["chat", "nope", "none"] });
    await expect(ready).rejects.toThrow('These policies are not in force: "nope", "none". In force are chat, upload.');
    await expect(ready).rejects.toBeInstanceOf(UnknownPolicyError);
    await expect(ready).rejects.toMatchObject({ status: 404, policies: ["nope", "none"] });
  });

  test("throws with the service's message if the token is refused", async () => {
    const { url } = await startServer(problem(401, "Send a token that is in force."));
    const ready = limiterAt(url, { onError: "allow" }).ready();
    await expect(ready).rejects.toThrow(new UnauthorizedError("Send a token that is in force."));
  });

  test.each<[string, () => Promise<string>]>([
    ["nothing answers", closedPort],
    ["something else answers", async () => (await startServer(answers(200, "<html>"))).url],
    ["the policies are none", async () => (await startServer(answers(200, { policies: "chat" }))).url],
    ["a policy has no name", async () => (await startServer(answers(200, { policies: [{}] }))).url],
  ])("throws if %s", async (_, urlOf) => {
    const ready = limiterAt(await urlOf(), { deadlineMs: 200, onError: "allow" }).ready();
    await expect(ready).rejects.toBeInstanceOf(UnavailableError);
  });

  test("ends when its signal is aborted", async () => {
    const { url } = await startServer(hangs);
    await expect(limiterAt(url).ready({ signal: AbortSignal.abort("no") })).rejects.toBe("no");
  });
});

describe.each(TRANSPORTS)("in an outage, a client over %s", (transport) => {
  const DEADLINE_MS = 250;
  const portOf = (url: string) => Number(new URL(url).port);

  /** A client in an outage: a few calls have had no answer. */
  async function inOutage(url: string, options: Partial<LimiterOptions> = {}) {
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: DEADLINE_MS, transport, log, ...options });
    for (let i = 0; i < 3; i++) await limiter.consume(request);
    return { limiter, log };
  }

  test.each<[string, () => Promise<string>]>([
    ["timeouts", async () => (await startServer(hangs)).url],
    ["refused connections", closedPort],
    ["errors of the service", async () => (await startServer(answers(503, "<html>"))).url],
  ])("lets onError decide at once after %s, without a wait", async (_, urlOf) => {
    const { limiter, log } = await inOutage(await urlOf());
    const startedMs = performance.now();
    const decisions: Decision[] = [];
    for (let i = 0; i < 200; i++) decisions.push(await limiter.consume(request), await limiter.check(request));
    // With a wait for each deadline they would take 100 s.
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    for (const decision of decisions)
      expect(decision).toMatchObject({ allowed: false, degraded: true, error: expect.any(UnavailableError) });
    const messages = log.mock.calls.map(([message]) => message);
    expect(messages).toContain('The limiter does not answer: "deny" is decided at once until it does.');
    expect(messages.length).toBeLessThan(5);
  });

  test('throws at once with onError: "throw"', async () => {
    const { url } = await startServer(hangs);
    const limiter = limiterAt(url, { deadlineMs: DEADLINE_MS, transport, onError: "throw" });
    for (let i = 0; i < 3; i++) await expect(limiter.consume(request)).rejects.toBeInstanceOf(UnavailableError);
    const startedMs = performance.now();
    for (let i = 0; i < 100; i++) await expect(limiter.check(request)).rejects.toBeInstanceOf(UnavailableError);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });

  test("an admission has an id only if its consume may have been recorded", async () => {
    const { url, received } = await startServer(hangs);
    const limiter = limiterAt(url, { deadlineMs: DEADLINE_MS, transport, onError: "allow" });
    for (let i = 0; i < 3; i++) {
      const { id } = await limiter.consume(request);
      expect(received.at(-1)?.key).toBe(`"${id}"`);
    }
    // From now on nothing is sent. A key of the caller's own may have been sent before.
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: true, id: undefined });
    expect(await limiter.consume({ ...request, idempotencyKey: "mine" })).toMatchObject({ allowed: true, id: "mine" });
  });

  test("probes in the background with back-off, and lets the service decide again after the first answer", async () => {
    const url = await closedPort();
    const { limiter, log } = await inOutage(url, { onError: "allow" });
    expect(await limiter.consume({ ...request, idempotencyKey: "mine" })).toMatchObject({
      allowed: true,
      id: "mine",
      degraded: true,
    });
    const { received } = await startServerAt(portOf(url), serves);
    // No call is made meanwhile.
    await vi.waitFor(() => expect(log).toHaveBeenLastCalledWith("The limiter answers again.", undefined), AMPLE_MS);
    expect(received).toHaveLength(1);
    expect(received[0]).toMatchObject({ path: "/v1/check", body: request });
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: false });
  });

  test("always sends a settle and a release, whose success ends the outage", async () => {
    const url = await closedPort();
    const { limiter } = await inOutage(url);
    const settling = { ...request, id: "k", cost: 0 };
    await expect(limiter.settle(settling)).rejects.toBeInstanceOf(UnavailableError);
    await expect(limiter.release(settling)).rejects.toBeInstanceOf(UnavailableError);
    const { received } = await startServerAt(portOf(url), serves);
    await limiter.settle(settling);
    expect(received.some(({ body }) => JSON.stringify(body).includes('"id":"k"'))).toBe(true);
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: false });
  });

  test("goes on calling the service if some calls are answered or were cancelled", async () => {
    const flaky = Array.from({ length: 12 }, (_, i) => (i % 3 === 2 ? serves : hangs)) as [Behaviour, ...Behaviour[]];
    const { url, received } = await startServer(...flaky, serves);
    const limiter = limiterAt(url, { deadlineMs: 90, transport });
    // A deadline of 90 ms is enough for a single attempt.
    for (let i = 0; i < 12; i++) await limiter.consume(request);
    expect(received).toHaveLength(12);
    const hanging = limiterAt((await startServer(hangs)).url, { transport });
    for (let i = 0; i < 5; i++) {
      const signal = AbortSignal.timeout(10);
      await expect(hanging.consume({ ...request, signal })).rejects.toThrow("timeout");
    }
  });
});

describe.each(TRANSPORTS)("these failures over %s are no outage:", (transport) => {
  const limiterAt = limiterOver(transport);
  const OPENED = 'The limiter does not answer: "deny" is decided at once until it does.';

  const OUT_OF_REACH = { status: 503, detail: "The counters could not be reached." };

  /**
   * A client whose service answers 503: its counters are unreachable. With `Retry-After`, so that a call is a single
   * attempt.
   */
  async function failing(behaviour: Behaviour = answers(503, OUT_OF_REACH, { "Retry-After": "1" })) {
    const { url, received } = await startServer(behaviour);
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: 90, log });
    const consume = (user: string, more: object = {}) =>
      limiter.consume({ policy: "chat", subject: { user, ...more } });
    const messages = () => log.mock.calls.map(([message]) => message);
    return { limiter, received, consume, messages };
  }

  test("an unreachable object of a single caller", async () => {
    const { received, consume, messages } = await failing();
    for (let i = 0; i < 10; i++) expect(await consume("u")).toMatchObject({ allowed: false, degraded: true });
    for (let i = 0; i < 5; i++) await consume("u", i % 2 ? { ip: "203.0.113.7" } : {});
    expect(received).toHaveLength(15);
    expect(messages()).not.toContain(OPENED);
  });

  test.each<[string, Behaviour]>([
    ["a page of a firewall about a single caller", answers(403, "<h1>Blocked</h1>", { "Content-Type": "text/html" })],
    ["a 429 of a proxy for a single caller", answers(429, "slow down")],
    ["a fault of the service about a single caller", problem(500, "The service failed.")],
  ])("%s", async (_, refuses) => {
    const { consume, messages } = await failing((response, incoming, body) =>
      (JSON.stringify(body).includes("evil") ? refuses : serves)(response, incoming, body),
    );
    for (let i = 0; i < 5; i++) expect(await consume("evil")).toMatchObject({ degraded: true });
    expect(messages()).not.toContain(OPENED);
    expect(await consume("u")).toMatchObject({ degraded: false });
  });

  test("unlike unreachable objects of three callers in a row", async () => {
    const { received, consume, messages } = await failing();
    for (const user of ["u", "v", "v", "u", "w", "x", "y"]) await consume(user);
    expect(messages()).toContain(OPENED);
    // The breaker may have probed meanwhile, but no call for "x" and "y" was sent.
    expect(received.filter(({ path }) => path === "/v1/consume")).toHaveLength(5);
  });

  test("a last attempt without time for an answer", async () => {
    let nth = 0;
    const { url } = await startServer((response, incoming, body) => {
      if (nth++ % 2 === 0) answers(503, OUT_OF_REACH)(response, incoming, body);
    });
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: 600, log });
    for (let i = 0; i < 4; i++) {
      nth = 0;
      expect((await limiter.consume(request)).error?.message).toContain("The counters could not be reached.");
    }
    expect(log.mock.calls.map(([message]) => message)).not.toContain(OPENED);
  });

  test("failed settles and releases", async () => {
    const { limiter, received, consume, messages } = await failing(hangs);
    const changing = { ...request, id: "k", cost: 0 };
    await consume("u");
    for (let i = 0; i < 3; i++) {
      await expect(limiter.settle(changing)).rejects.toBeInstanceOf(UnavailableError);
      await expect(limiter.release(changing)).rejects.toBeInstanceOf(UnavailableError);
    }
    await consume("u");
    expect(received.filter(({ path }) => path === "/v1/consume")).toHaveLength(2);
    expect(messages()).not.toContain(OPENED);
  });
});
