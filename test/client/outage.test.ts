import { describe, expect, onTestFinished, test, vi } from "vitest";
import {
  type Decision,
  InvalidRequestError,
  Limiter,
  type LimiterOptions,
  UnauthorizedError,
  UnavailableError,
} from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, closedPort, hangs, problem, startServer, startServerAt } from "./server";

const AMPLE_MS = 30_000;
const request = { policy: "chat", subject: { user: "u" } };
const UNKNOWN_POLICY = problem(404, "There is no such policy.", [
  { pointer: "/policy", detail: "must name a policy in force" },
]);

function limiterAt(url: string, options: Partial<LimiterOptions> = {}): Limiter {
  return new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, log: () => {}, ...options });
}

describe("what is wrong with the configuration is an outage, answered by onError at once:", () => {
  const mistakes: [string, Behaviour, object, string][] = [
    ["a token that is refused", problem(401, "No."), UnauthorizedError, "The limiter refuses the token."],
    ["a policy that there is not", UNKNOWN_POLICY, InvalidRequestError, 'The limiter has no policy "chat".'],
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

  test.each(mistakes)("%s allows where the caller chose so", async (_, behaviour) => {
    const limiter = limiterAt((await startServer(behaviour)).url, { onError: "allow" });
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: true });
    expect(await limiter.check(request)).toMatchObject({ allowed: true, degraded: true });
  });

  test.each(mistakes)("%s is told in the log once, not once a request", async (_, behaviour, kind, words) => {
    const log = vi.fn();
    const limiter = limiterAt((await startServer(behaviour)).url, { log });
    for (let i = 0; i < 5; i++) await limiter.consume(request);
    expect(log.mock.calls).toEqual([[`${words} "deny" is decided.`, expect.any(kind)]]);
  });
});

test("a decision of the service is no outage: a cost above the limit is never allowed", async () => {
  const { url } = await startServer(problem(422, 'A cost of 6 can never be admitted: policy "chat" admits at most 5.'));
  for (const onError of ["allow", "deny"] as const)
    await expect(limiterAt(url, { onError }).consume({ ...request, cost: 6 })).rejects.toThrow("can never be admitted");
});

describe("ready", () => {
  const policies = answers(200, { policies: [{ name: "chat" }, { name: "upload" }] });

  test("passes when the token is in force, and the policies are", async () => {
    const { url, received } = await startServer(policies);
    await limiterAt(url).ready();
    await limiterAt(url).ready({ policies: ["upload", "chat"] });
    expect(received.map(({ path }) => path)).toEqual(["/v1/policies", "/v1/policies"]);
  });

  test("throws and names the policies that are not in force", async () => {
    const { url } = await startServer(policies);
    const ready = limiterAt(url, { onError: "allow" }).ready({ policies: ["chat", "nope", "none"] });
    await expect(ready).rejects.toThrow('These policies are not in force: "nope", "none". In force are chat, upload.');
    await expect(ready).rejects.toBeInstanceOf(InvalidRequestError);
  });

  test("throws when the token is refused, in the service's words", async () => {
    const { url } = await startServer(problem(401, "Send a token that is in force."));
    const ready = limiterAt(url, { onError: "allow" }).ready();
    await expect(ready).rejects.toThrow(new UnauthorizedError("Send a token that is in force."));
  });

  test.each<[string, () => Promise<string>]>([
    ["nobody answers", closedPort],
    ["something else answers", async () => (await startServer(answers(200, "<html>"))).url],
  ])("throws when %s", async (_, urlOf) => {
    const ready = limiterAt(await urlOf(), { deadlineMs: 200, onError: "allow" }).ready();
    await expect(ready).rejects.toBeInstanceOf(UnavailableError);
  });

  test("ends with its signal", async () => {
    const { url } = await startServer(hangs);
    await expect(limiterAt(url).ready({ signal: AbortSignal.abort("no") })).rejects.toBe("no");
  });
});

describe.each([
  ["that sends each call alone", false],
  ["that batches", true],
])("while nobody answers, a client %s", (_, batch) => {
  const DEADLINE_MS = 250;
  const portOf = (url: string) => Number(new URL(url).port);

  /** A client to which nobody has answered for a few calls. */
  async function inOutage(url: string, options: Partial<LimiterOptions> = {}) {
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: DEADLINE_MS, batch, log, ...options });
    for (let i = 0; i < 3; i++) await limiter.consume(request);
    return { limiter, log };
  }

  /** Answers calls alone and in batches. */
  const serves: Behaviour = (response, asked, body) => {
    if (asked.url !== "/v1/batch") return answers(200, ADMITTED)(response, asked, body);
    const { requests } = body as { requests: unknown[] };
    answers(200, { results: requests.map(() => ({ status: 200, body: ADMITTED })) })(response, asked, body);
  };

  test.each<[string, () => Promise<string>]>([
    ["there is only silence", async () => (await startServer(hangs)).url],
    ["nobody listens", closedPort],
    ["everything fails", async () => (await startServer(answers(503, "<html>"))).url],
  ])("lets onError decide at once when %s, and makes nobody wait", async (_, urlOf) => {
    const { limiter, log } = await inOutage(await urlOf());
    const startedMs = performance.now();
    const decisions: Decision[] = [];
    for (let i = 0; i < 200; i++) decisions.push(await limiter.consume(request), await limiter.check(request));
    // By waiting for each they would take 100 s.
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    for (const decision of decisions)
      expect(decision).toMatchObject({ allowed: false, degraded: true, error: expect.any(UnavailableError) });
    const told = log.mock.calls.map(([message]) => message);
    expect(told).toContain('The limiter does not answer: "deny" is decided at once until it does.');
    expect(told.length).toBeLessThan(5);
  });

  test("asks again in the background, with back-off, and decides as ever once it is answered", async () => {
    const url = await closedPort();
    const { limiter, log } = await inOutage(url, { onError: "allow" });
    expect(await limiter.consume({ ...request, idempotencyKey: "mine" })).toMatchObject({
      allowed: true,
      id: "mine",
      degraded: true,
    });
    const { received } = await startServerAt(portOf(url), serves);
    // Nobody calls meanwhile.
    await vi.waitFor(() => expect(log).toHaveBeenLastCalledWith("The limiter answers again.", undefined), AMPLE_MS);
    expect(received).toHaveLength(1);
    const asked = batch ? { requests: [{ op: "check", ...request }] } : request;
    expect(received[0]).toMatchObject({ path: batch ? "/v1/batch" : "/v1/check", body: asked });
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: false });
  });

  test("always tries a settle and a release, whose success is an answer", async () => {
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

  test("goes on asking for each call when some are answered, or were cancelled", async () => {
    const flaky = Array.from({ length: 12 }, (_, i) => (i % 3 === 2 ? serves : hangs)) as [Behaviour, ...Behaviour[]];
    const { url, received } = await startServer(...flaky, serves);
    const limiter = limiterAt(url, { deadlineMs: 90, batch });
    // A deadline of 90 ms is one try.
    for (let i = 0; i < 12; i++) await limiter.consume(request);
    expect(received).toHaveLength(12);
    const silent = limiterAt((await startServer(hangs)).url, { batch });
    for (let i = 0; i < 5; i++) {
      const signal = AbortSignal.timeout(10);
      await expect(silent.consume({ ...request, signal })).rejects.toThrow("timeout");
    }
  });
});

describe("failures that are about one caller, or not about a decision, are no outage:", () => {
  const OPENED = 'The limiter does not answer: "deny" is decided at once until it does.';

  const OUT_OF_REACH = { status: 503, detail: "The counters could not be reached." };

  /** A client to which the service says by itself that it can't reach the counters. It asks for a pause, so a call is one try. */
  async function failing(behaviour: Behaviour = answers(503, OUT_OF_REACH, { "Retry-After": "1" })) {
    const { url, received } = await startServer(behaviour);
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: 90, log });
    const consume = (user: string, more: object = {}) =>
      limiter.consume({ policy: "chat", subject: { user, ...more } });
    const told = () => log.mock.calls.map(([message]) => message);
    return { limiter, received, consume, told };
  }

  test("one caller's object that is out of reach", async () => {
    const { received, consume, told } = await failing();
    for (let i = 0; i < 10; i++) expect(await consume("u")).toMatchObject({ allowed: false, degraded: true });
    for (let i = 0; i < 5; i++) await consume("u", i % 2 ? { ip: "203.0.113.7" } : {});
    expect(received).toHaveLength(15);
    expect(told()).not.toContain(OPENED);
  });

  test("but those of three callers in a row are one", async () => {
    const { received, consume, told } = await failing();
    for (const user of ["u", "v", "v", "u", "w", "x", "y"]) await consume(user);
    expect(told()).toContain(OPENED);
    // The breaker may have asked meanwhile, but for "x" and "y" nobody waited.
    expect(received.filter(({ path }) => path === "/v1/consume")).toHaveLength(5);
  });

  test("nor does a last try without time for an answer make it one", async () => {
    let nth = 0;
    const { url } = await startServer((response, asked, body) => {
      if (nth++ % 2 === 0) answers(503, OUT_OF_REACH)(response, asked, body);
    });
    const log = vi.fn();
    const limiter = limiterAt(url, { deadlineMs: 600, log });
    for (let i = 0; i < 4; i++) {
      nth = 0;
      expect((await limiter.consume(request)).error?.message).toContain("The counters could not be reached.");
    }
    expect(log.mock.calls.map(([message]) => message)).not.toContain(OPENED);
  });

  test("settles and releases that fail", async () => {
    const { limiter, received, consume, told } = await failing(hangs);
    const changing = { ...request, id: "k", cost: 0 };
    await consume("u");
    for (let i = 0; i < 3; i++) {
      await expect(limiter.settle(changing)).rejects.toBeInstanceOf(UnavailableError);
      await expect(limiter.release(changing)).rejects.toBeInstanceOf(UnavailableError);
    }
    await consume("u");
    expect(received.filter(({ path }) => path === "/v1/consume")).toHaveLength(2);
    expect(told()).not.toContain(OPENED);
  });
});

describe("in an outage, on a clock that the test moves,", () => {
  const HOUR_MS = 3_600_000;

  /** A client to whose fetch nobody has answered for a few calls. */
  async function inOutage() {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const asked: number[] = [];
    let isOver = false;
    const fetch = async () => {
      asked.push(performance.now());
      if (!isOver) throw new Error("nobody there");
      return Response.json(ADMITTED);
    };
    // A deadline so short is one try a call.
    const limiter = limiterAt("http://limiter.test", { deadlineMs: 20, fetch });
    for (let i = 0; i < 3; i++) await limiter.consume(request);
    expect(asked.splice(0)).toHaveLength(3);
    const isDegraded = async () => (await limiter.consume(request)).degraded;
    const end = () => {
      isOver = true;
    };
    return { asked, isDegraded, end };
  }

  test("it is asked ever more seldom, at least every few seconds while there are calls", async () => {
    const { asked, isDegraded } = await inOutage();
    for (let i = 0; i < 60; i++) {
      await vi.advanceTimersByTimeAsync(1_000);
      expect(await isDegraded()).toBe(true);
    }
    const pausesMs = asked.map((atMs, i) => atMs - (asked[i - 1] ?? 0));
    expect(asked.length).toBeGreaterThan(8);
    expect(asked.length).toBeLessThan(30);
    expect(pausesMs[1]).toBeLessThan(1_000);
    expect(Math.max(...pausesMs)).toBeLessThan(8_000);
  });

  test("a client that nobody uses any more asks no more, and its next call asks again", async () => {
    const { asked, isDegraded, end } = await inOutage();
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    const before = asked.length;
    await vi.advanceTimersByTimeAsync(HOUR_MS);
    expect(asked).toHaveLength(before);
    expect(vi.getTimerCount()).toBe(0);
    end();
    expect(await isDegraded()).toBe(true);
    expect(asked).toHaveLength(before + 1);
    await vi.advanceTimersByTimeAsync(0);
    expect(await isDegraded()).toBe(false);
  });

  test("a call asks again when the runtime has dropped the timer together with the request that set it", async () => {
    const { asked, isDegraded, end } = await inOutage();
    vi.clearAllTimers();
    end();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(asked).toHaveLength(0);
    expect(await isDegraded()).toBe(true);
    expect(asked).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(0);
    expect(await isDegraded()).toBe(false);
  });
});
