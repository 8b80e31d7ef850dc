import { describe, expect, test, vi } from "vitest";
import { Limiter, type LimiterOptions, UnauthorizedError, UnavailableError } from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, hangs, problem, startServer, TRANSPORTS } from "./server";

const AMPLE_MS = 30_000;
const event = { policy: "chat", subject: { user: "u" }, id: "k" };
const CHANGED = { ...ADMITTED, released: true, cost: 0 };

const gives = [
  ["a settle", (limiter: Limiter, signal: AbortSignal) => limiter.settle({ ...event, cost: 0, signal })],
  ["a release", (limiter: Limiter, signal: AbortSignal) => limiter.release({ ...event, signal })],
] as const;
const cases = gives.flatMap(([what, give]) => TRANSPORTS.map((transport) => [what, transport, give] as const));

function limiterAt(url: string, options: Partial<LimiterOptions>): Limiter {
  return new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, ...options });
}

describe.each(cases)("%s over %s", (_, transport, give) => {
  test("is sent even if its signal was aborted before, like that of a stream whose client hung up", async () => {
    const { url, received } = await startServer(answers(200, CHANGED));
    const log = vi.fn();
    const given = give(limiterAt(url, { transport, log }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(received).toHaveLength(1), AMPLE_MS);
    expect(log).not.toHaveBeenCalled();
  });

  test("is retried until it is answered, even if its signal is aborted in flight", async () => {
    const controller = new AbortController();
    let isDone = false;
    const { url, received } = await startServer(
      () => controller.abort("hung up"),
      answers(503, ""),
      (response, request, body) => {
        isDone = true;
        answers(200, CHANGED)(response, request, body);
      },
    );
    const log = vi.fn();
    // The first attempt gets no answer for half of the deadline.
    const given = give(limiterAt(url, { transport, log, deadlineMs: 2_000 }), controller.signal);
    await expect(given).rejects.toBe("hung up");
    expect(received).toHaveLength(1);
    await vi.waitFor(() => expect(isDone).toBe(true), AMPLE_MS);
    expect(log).not.toHaveBeenCalled();
  });

  test("is logged if it fails after its caller has stopped waiting", async () => {
    const { url } = await startServer(answers(401, { status: 401, detail: "No." }));
    const log = vi.fn();
    const given = give(limiterAt(url, { transport, log }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(log).toHaveBeenCalled(), AMPLE_MS);
    expect(log.mock.calls[0]).toEqual([expect.stringContaining("has failed"), expect.any(UnauthorizedError)]);
  });

  test("ends by its deadline, and logs that", async () => {
    const { url } = await startServer(hangs);
    const log = vi.fn();
    const startedMs = performance.now();
    const given = give(limiterAt(url, { transport, log, deadlineMs: 300 }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(log).toHaveBeenCalled(), AMPLE_MS);
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(log.mock.calls[0]?.[1]).toBeInstanceOf(UnavailableError);
  });

  test("is still sent when the consumes around it are cancelled", async () => {
    const controller = new AbortController();
    const { url, received } = await startServer(() => controller.abort("hung up"), answers(200, CHANGED));
    const limiter = limiterAt(url, { transport, log: () => {} });
    const { policy, subject } = event;
    const consuming = { policy, subject, idempotencyKey: "mine", signal: controller.signal };
    const consumed = limiter.consume(consuming).catch((reason: unknown) => reason);
    await vi.waitFor(() => expect(received).toHaveLength(1), AMPLE_MS);
    const given = give(limiter, new AbortController().signal);
    expect(await consumed).toBe("hung up");
    expect(await given).toMatchObject({ id: "k" });
  });

  test("keeps no listener after the call", async () => {
    const { url } = await startServer(answers(200, CHANGED));
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await give(limiterAt(url, { transport }), signal);
    expect(added).toHaveBeenCalledTimes(1);
    expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(
      added.mock.calls.map(([, listener]) => listener),
    );
  });
});

describe.each(TRANSPORTS)("a consume over %s that is cancelled", (transport) => {
  const consuming = { policy: "chat", subject: { user: "u" } };

  /** A client whose consume is cancelled once it has arrived, and the requests that the server gets. */
  async function left(options: Partial<LimiterOptions>, ...behaviours: [Behaviour, ...Behaviour[]]) {
    const controller = new AbortController();
    const [first, ...others] = behaviours;
    const { url, received } = await startServer(
      (response, request, body) => {
        controller.abort("hung up");
        first(response, request, body);
      },
      ...others,
    );
    const log = vi.fn();
    const limiter = limiterAt(url, { transport, log, ...options });
    await expect(limiter.consume({ ...consuming, signal: controller.signal })).rejects.toBe("hung up");
    const sent = () =>
      received.map(({ path, key, body }) => ({ op: path.slice("/v1/".length), key, ...(body as object) }));
    const ops = () => sent().map(({ op }) => op);
    return { limiter, log, sent, ops };
  }

  /** Answers with the key or the id of the request as the id of the decision. */
  const admits: Behaviour = (response, request, body) => {
    const key = String(request.headers["idempotency-key"]).slice(1, -1);
    const { id = key } = body as { id?: string };
    answers(200, { ...CHANGED, id })(response, request, body);
  };

  const GIVEN_BACK = ["consume", "consume", "release", "settle"];

  test("is looked up by its key and given back if it was admitted: settled at 0 and released", async () => {
    const { log, sent, ops } = await left({}, admits);
    await vi.waitFor(() => expect(ops().toSorted()).toEqual(GIVEN_BACK), AMPLE_MS);
    const id = /^"([0-9a-f]{32})"$/.exec(String(sent()[0]?.key))?.[1];
    expect(sent()[1]?.key).toBe(`"${id}"`);
    expect(sent()).toContainEqual({ ...consuming, id, op: "settle", cost: 0 });
    expect(sent()).toContainEqual({ ...consuming, id, op: "release" });
    expect(log).not.toHaveBeenCalled();
  });

  test("is looked up until there is an answer", async () => {
    const { ops } = await left({}, hangs, answers(502, ""), admits);
    await vi.waitFor(() => expect(ops().toSorted()).toEqual(["consume", ...GIVEN_BACK]), AMPLE_MS);
  });

  test.each([
    ["denied", { ...ADMITTED, allowed: false, id: undefined, retry_after_seconds: 1 }, 429],
    ["admitted without being recorded", { ...ADMITTED, degraded: true, limits: [] }, 200],
  ])("has nothing to give back if it was %s", async (_, body, status) => {
    const { limiter, log, ops } = await left({}, hangs, answers(status, body), admits);
    await vi.waitFor(() => expect(ops()).toHaveLength(2), AMPLE_MS);
    await limiter.check(consuming);
    await limiter.check(consuming);
    expect(ops()).toEqual(["consume", "consume", "check", "check"]);
    expect(log).not.toHaveBeenCalled();
  });

  test("is logged if the look-up fails by its deadline", async () => {
    const { log } = await left({ deadlineMs: 200 }, hangs, hangs);
    await vi.waitFor(() => expect(log).toHaveBeenCalled(), AMPLE_MS);
    expect(log.mock.calls).toEqual([["A consume that nobody waited for has failed.", expect.any(UnavailableError)]]);
  });

  test("is logged if giving back fails, for the settle and for the release", async () => {
    const { log } = await left({}, hangs, admits, answers(401, { status: 401, detail: "No." }));
    await vi.waitFor(() => expect(log).toHaveBeenCalledTimes(2), AMPLE_MS);
    expect(log.mock.calls.toSorted()).toEqual([
      ["A release that nobody waited for has failed.", expect.any(UnauthorizedError)],
      ["A settle that nobody waited for has failed.", expect.any(UnauthorizedError)],
    ]);
  });
});

test("logs a failure with the service's message", async () => {
  const { url } = await startServer(problem(503, "No object."));
  const given = limiterAt(url, { deadlineMs: 200, log: () => {} }).settle({ ...event, cost: 0 });
  await expect(given).rejects.toThrow("the limiter answered 503: No object.");
});
