import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { describe, expect, test, vi } from "vitest";
import {
  type Decision,
  Limiter,
  type LimiterOptions,
  UnauthorizedError,
  UnavailableError,
} from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, hangs, problem, resets, startServer } from "./server";

const AMPLE_MS = 30_000;

interface Item {
  readonly op: string;
  readonly idempotency_key?: string;
  readonly attempt?: number;
  readonly subject: { readonly user: string };
}

/** A server, a client that batches, and the users of each batch that has arrived. */
async function batching(behaviours: [Behaviour, ...Behaviour[]], options: Partial<LimiterOptions> = {}) {
  const { url, received } = await startServer(...behaviours);
  const limiter = new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, batch: true, log: () => {}, ...options });
  const batches = () => received.map(({ body }) => (body as { requests: Item[] }).requests);
  const itemsOf = (i: number) => batches()[i] ?? [];
  const users = () => batches().map((items) => items.map(({ subject }) => subject.user));
  const consume = (user: string, options = {}) => limiter.consume({ policy: "chat", subject: { user }, ...options });
  const arrived = (count: number) => vi.waitFor(() => expect(received).toHaveLength(count), AMPLE_MS);
  return { limiter, received, batches, itemsOf, users, consume, arrived };
}

/** Answers each call of a batch with its own request, so that a mixed-up answer is noticed. */
const echoes: Behaviour = (response, _, body) => echo(response, body);

function echo(response: ServerResponse, body: unknown, change = (results: unknown[]) => results): void {
  const { requests } = body as { requests: Item[] };
  const results = requests.map(({ subject, idempotency_key: id }) => ({
    status: 200,
    headers: { RateLimit: subject.user, "X-Other": "not handed on" },
    body: {
      ...ADMITTED,
      id: id ?? "x",
      released: true,
      limits: [{ ...ADMITTED.limits[0], key: `user:${subject.user}` }],
    },
  }));
  response.end(JSON.stringify({ results: change(results) }));
}

/** The user that a decision is about. */
const userOf = ({ headers }: Decision) => headers.RateLimit;

/** Answers a batch only once `answer` is called. */
function later() {
  const held: (() => void)[] = [];
  const holds: Behaviour = (response, _, body) => void held.push(() => echo(response, body));
  const answer = () => {
    for (const one of held.splice(0)) one();
  };
  return { holds, answer };
}

describe("calls of a client that batches", () => {
  test("that are made in the same turn are sent together, and each gets its own answer", async () => {
    const { received, consume, users } = await batching([echoes]);
    const decisions = await Promise.all(["a", "b", "c"].map((user) => consume(user)));
    expect(users()).toEqual([["a", "b", "c"]]);
    expect(decisions.map(({ limits, headers }) => [limits[0]?.key, headers])).toEqual(
      ["a", "b", "c"].map((user) => [`user:${user}`, { RateLimit: user }]),
    );
    expect(received[0]?.body).toMatchObject({ headers: true });
  });

  test("that are made while a batch is in flight form the next batch", async () => {
    const { holds, answer } = later();
    const { arrived, consume, users } = await batching([holds, echoes]);
    const first = consume("a");
    await arrived(1);
    const next = ["b", "c"].map((user) => consume(user));
    answer();
    expect((await Promise.all([first, ...next])).map(userOf)).toEqual(["a", "b", "c"]);
    expect(users()).toEqual([["a"], ["b", "c"]]);
  });

  test("can be of every kind, each answered like the single call", async () => {
    const { limiter, itemsOf, consume } = await batching([echoes]);
    const request = { policy: "chat", subject: { user: "a" } };
    const settled = limiter.settle({ ...request, id: "x", cost: 0 });
    const released = limiter.release({ ...request, id: "x" });
    await Promise.all([
      limiter.check(request),
      consume("a", { cost: 2, idempotencyKey: "mine" }),
      consume("b"),
      settled,
      released,
    ]);
    expect(itemsOf(0)).toEqual([
      { op: "settle", ...request, id: "x", cost: 0 },
      { op: "release", ...request, id: "x" },
      { op: "check", ...request },
      { op: "consume", ...request, cost: 2, idempotency_key: "mine" },
      { op: "consume", ...request, subject: { user: "b" }, idempotency_key: expect.any(String), attempt: 1 },
    ]);
  });

  test("fill a batch up to 100 calls and 64 KiB, and a call too long for a batch is sent alone", async () => {
    const { received, consume, users } = await batching([echoes]);
    await Promise.all(Array.from({ length: 101 }, (_, i) => consume(`${i}`)));
    expect(users().map(({ length }) => length)).toEqual([100, 1]);
    received.length = 0;
    const long = "ü".repeat(1_000);
    await Promise.all(Array.from({ length: 40 }, () => consume(long)));
    const bytes = received.map(({ body }) => new TextEncoder().encode(JSON.stringify(body)).length);
    expect(Math.max(...bytes)).toBeLessThanOrEqual(65_536);
    expect(Math.max(...bytes)).toBeGreaterThan(62_000);
    const { url, received: alone } = await startServer(answers(200, ADMITTED));
    const limiter = new Limiter({ url, token: "t", batch: true });
    await limiter.consume({ policy: "chat", subject: { user: "x".repeat(2_100) } });
    expect(alone[0]?.body).toMatchObject({ policy: "chat" });
    expect(alone[0]?.key).toBeDefined();
  });

  test("are retried each by itself, with its own key and attempt number", async () => {
    const { batches, itemsOf, consume } = await batching([resets, echoes]);
    const decisions = await Promise.all([consume("a"), consume("b", { idempotencyKey: "mine" })]);
    expect(decisions.map(userOf)).toEqual(["a", "b"]);
    const again = batches().slice(1).flat();
    const ofUser = (name: string) => again.find(({ subject }) => subject.user === name);
    expect(ofUser("a")).toMatchObject({ idempotency_key: itemsOf(0)[0]?.idempotency_key, attempt: 2 });
    expect(ofUser("b")).toEqual({ ...itemsOf(0)[1] });
  });

  test("that are cancelled before they are sent are never sent", async () => {
    const { holds, answer } = later();
    const { arrived, consume, users } = await batching([holds, echoes]);
    const first = consume("a");
    await arrived(1);
    const cancel = new AbortController();
    const cancelled = consume("b", { signal: cancel.signal }).catch((reason: unknown) => reason);
    const third = consume("c");
    cancel.abort("enough");
    expect(await cancelled).toBe("enough");
    answer();
    await Promise.all([first, third]);
    expect(users()).toEqual([["a"], ["c"]]);
  });

  test("that are cancelled in flight leave the others their answers", async () => {
    const { holds, answer } = later();
    const { arrived, consume } = await batching([holds]);
    const cancel = new AbortController();
    const cancelled = consume("a", { signal: cancel.signal }).catch((reason: unknown) => reason);
    const other = consume("b");
    await arrived(1);
    cancel.abort("enough");
    expect(await cancelled).toBe("enough");
    answer();
    expect(userOf(await other)).toBe("b");
  });

  test("do not wait for a batch that all of its calls have left, and abort its request", async () => {
    let closed: Promise<unknown> | undefined;
    const unanswered: Behaviour = (response) => {
      closed = once(response, "close");
    };
    const { arrived, consume } = await batching([unanswered, echoes]);
    const cancel = new AbortController();
    const cancelled = consume("a", { signal: cancel.signal }).catch((reason: unknown) => reason);
    await arrived(1);
    const next = consume("b");
    cancel.abort("enough");
    await cancelled;
    expect(userOf(await next)).toBe("b");
    await closed;
  });

  test("each have a deadline that an unanswered batch does not extend", async () => {
    const { consume } = await batching([hangs], { deadlineMs: 300 });
    const [decision] = await Promise.all([consume("a"), consume("b")]);
    expect(decision).toMatchObject({ degraded: true, error: expect.any(UnavailableError) });
  });

  test("each throw the error of a batch that is refused as a whole, and later calls go on", async () => {
    const { consume } = await batching([problem(401, "Send a token that is in force."), echoes]);
    const refused = await Promise.all([consume("a"), consume("b")]);
    for (const one of refused) expect(one).toMatchObject({ allowed: false, error: expect.any(UnauthorizedError) });
    expect(userOf(await consume("c"))).toBe("c");
  });

  test.each<[string, Behaviour]>([
    ["too few results", (response, _, body) => echo(response, body, (results) => results.slice(1))],
    ["no results", answers(200, ADMITTED)],
    ["results that are no results", (response, _, body) => echo(response, body, (results) => results.map(() => 1))],
    ["a page of a proxy", answers(502, "<html>")],
    [
      "a result of 503",
      (response, _, body) => echo(response, body, (results) => results.map(() => ({ status: 503, body: {} }))),
    ],
  ])("are retried after %s", async (_, behaviour) => {
    const { consume } = await batching([behaviour, echoes]);
    expect((await Promise.all([consume("a"), consume("b")])).map(userOf)).toEqual(["a", "b"]);
  });
});
