import { describe, expect, test, vi } from "vitest";
import { Limiter, type LimiterOptions, UnauthorizedError, UnavailableError } from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, hangs, problem, startServer } from "./server";

const AMPLE_MS = 30_000;
const asked = { policy: "chat", subject: { user: "u" }, id: "k" };
const CHANGED = { ...ADMITTED, released: true };

const gives = [
  ["a settle", (limiter: Limiter, signal: AbortSignal) => limiter.settle({ ...asked, cost: 0, signal })],
  ["a release", (limiter: Limiter, signal: AbortSignal) => limiter.release({ ...asked, signal })],
] as const;
const kinds = [
  ["alone", false],
  ["in a batch", true],
] as const;
const cases = gives.flatMap(([what, give]) => kinds.map(([how, batch]) => [what, how, give, batch] as const));

function limiterAt(url: string, options: Partial<LimiterOptions>): Limiter {
  return new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, ...options });
}

/** The same answer to a call alone, and to each call of a batch. */
function either(behaviour: { readonly status: number; readonly body: unknown }): Behaviour {
  return (response, request, body) => {
    const { status, body: told } = behaviour;
    if (request.url !== "/v1/batch") return answers(status, told)(response, request, body);
    const { requests } = body as { requests: unknown[] };
    answers(200, { results: requests.map(() => ({ status, body: told })) })(response, request, body);
  };
}

describe.each(cases)("%s that is sent %s", (_, __, give, batch) => {
  test("is sent also when its signal was aborted before, as a stream's is whose client hung up", async () => {
    const { url, received } = await startServer(either({ status: 200, body: CHANGED }));
    const log = vi.fn();
    const given = give(limiterAt(url, { batch, log }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(received).toHaveLength(1), AMPLE_MS);
    expect(log).not.toHaveBeenCalled();
  });

  test("is tried again until it is heard, though its signal is aborted under way", async () => {
    const controller = new AbortController();
    let isDone = false;
    const { url, received } = await startServer(
      () => controller.abort("hung up"),
      answers(503, ""),
      (response, request, body) => {
        isDone = true;
        either({ status: 200, body: CHANGED })(response, request, body);
      },
    );
    const log = vi.fn();
    // The first try is silent for half of the deadline.
    const given = give(limiterAt(url, { batch, log, deadlineMs: 2_000 }), controller.signal);
    await expect(given).rejects.toBe("hung up");
    expect(received).toHaveLength(1);
    await vi.waitFor(() => expect(isDone).toBe(true), AMPLE_MS);
    expect(log).not.toHaveBeenCalled();
  });

  test("that fails when nobody waits for it any more is told in the log", async () => {
    const { url } = await startServer(either({ status: 401, body: { status: 401, detail: "No." } }));
    const log = vi.fn();
    const given = give(limiterAt(url, { batch, log }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(log).toHaveBeenCalled(), AMPLE_MS);
    expect(log.mock.calls[0]).toEqual([expect.stringContaining("has failed"), expect.any(UnauthorizedError)]);
  });

  test("ends by its deadline, and the log says so", async () => {
    const { url } = await startServer(hangs);
    const log = vi.fn();
    const startedMs = performance.now();
    const given = give(limiterAt(url, { batch, log, deadlineMs: 300 }), AbortSignal.abort("hung up"));
    await expect(given).rejects.toBe("hung up");
    await vi.waitFor(() => expect(log).toHaveBeenCalled(), AMPLE_MS);
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    expect(log.mock.calls[0]?.[1]).toBeInstanceOf(UnavailableError);
  });

  test("travels on when the consumes around it are cancelled", async () => {
    const controller = new AbortController();
    const { url, received } = await startServer(
      () => controller.abort("hung up"),
      either({ status: 200, body: CHANGED }),
    );
    const limiter = limiterAt(url, { batch, log: () => {} });
    const { policy, subject } = asked;
    const consumed = limiter.consume({ policy, subject, signal: controller.signal }).catch((reason: unknown) => reason);
    await vi.waitFor(() => expect(received).toHaveLength(1), AMPLE_MS);
    const given = give(limiter, new AbortController().signal);
    expect(await consumed).toBe("hung up");
    expect(await given).toMatchObject({ id: "k" });
  });

  test("leaves no listener at the signal", async () => {
    const { url } = await startServer(either({ status: 200, body: CHANGED }));
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await give(limiterAt(url, { batch }), signal);
    expect(added).toHaveBeenCalledTimes(1);
    expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(
      added.mock.calls.map(([, listener]) => listener),
    );
  });
});

test("a failure is told in words, with what the service said", async () => {
  const { url } = await startServer(problem(503, "No object."));
  const given = limiterAt(url, { deadlineMs: 200, log: () => {} }).settle({ ...asked, cost: 0 });
  await expect(given).rejects.toThrow("the limiter answered 503: No object.");
});
