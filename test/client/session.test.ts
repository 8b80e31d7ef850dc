import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { WebSocket } from "ws";
import {
  type Decision,
  InvalidRequestError,
  Limiter,
  type LimiterOptions,
  UnauthorizedError,
  UnavailableError,
} from "../../src/client/index.js";
import { ADMITTED, answers } from "./server";
import { type Item, type Message, startSessionServer } from "./session-server";

const AMPLE_MS = 30_000;

/** Answers each request with its own user and key, so that a mixed-up answer is noticed. */
function echo(socket: WebSocket, { id, requests }: Message, change = (results: unknown[]) => results): void {
  const results = requests.map(({ subject, idempotency_key, id, cost = 1 }) => ({
    status: 200,
    headers: { RateLimit: subject.user, "X-Other": "not handed on" },
    body: {
      ...ADMITTED,
      id: id ?? idempotency_key ?? "x",
      released: true,
      cost,
      limits: [{ ...ADMITTED.limits[0], key: `user:${subject.user}` }],
    },
  }));
  socket.send(JSON.stringify({ id, results: change(results) }));
}

type OnMessage = (socket: WebSocket, message: Message, nth: number) => void;

/** A server of sessions, and a client that uses one. */
async function inSession(onMessage: OnMessage = (socket, message) => echo(socket, message), options = {}) {
  const { isPonging, ...more }: Partial<LimiterOptions> & { isPonging?: () => boolean } = options;
  const server = await startSessionServer({
    onMessage,
    onRequest: answers(200, ADMITTED),
    ...(isPonging && { isPonging }),
  });
  const log = vi.fn();
  const limiter = new Limiter({
    url: server.url,
    token: "t",
    deadlineMs: AMPLE_MS,
    transport: "session",
    log,
    ...more,
  });
  const consume = (user: string, options = {}) => limiter.consume({ policy: "chat", subject: { user }, ...options });
  const users = () => server.messages.map(({ requests }) => requests.map(({ subject }) => subject.user));
  const itemsOf = (i: number): readonly Item[] => server.messages[i]?.requests ?? [];
  const arrived = (count: number) => vi.waitFor(() => expect(server.messages).toHaveLength(count), AMPLE_MS);
  return { ...server, limiter, log, consume, users, itemsOf, arrived };
}

/** The user that a decision is about. */
const userOf = ({ headers }: Decision) => headers.RateLimit;
const reasonOf = (call: Promise<unknown>) => call.catch((reason: unknown) => reason);
const many = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);

describe("calls over a session", () => {
  test("that are made in the same turn are sent in one message, and each gets its own answer", async () => {
    const { handshakes, messages, consume, users } = await inSession();
    await consume("first");
    const decisions = await Promise.all([
      consume("a"),
      Promise.resolve().then(() => consume("b")),
      (async () => {
        for (let i = 0; i < 20; i++) await undefined;
        return consume("c");
      })(),
    ]);
    expect(users()).toEqual([["first"], ["a", "b", "c"]]);
    expect(decisions.map(({ limits, headers }) => [limits[0]?.key, headers])).toEqual(
      ["a", "b", "c"].map((user) => [`user:${user}`, { RateLimit: user }]),
    );
    expect(messages).toMatchObject([
      { id: 0, headers: true },
      { id: 1, headers: true },
    ]);
    expect(handshakes).toHaveLength(1);
    expect(handshakes[0]).toMatchObject({ url: "/v1/session", headers: { authorization: "Bearer t" } });
    expect(handshakes[0]?.headers).not.toHaveProperty("sec-websocket-extensions");
  });

  test("can be of every kind, each answered like the single call", async () => {
    const { limiter, itemsOf, consume } = await inSession();
    const request = { policy: "chat", subject: { user: "a" } };
    await Promise.all([
      limiter.check(request),
      consume("a", { cost: 2, idempotencyKey: "mine" }),
      consume("b"),
      limiter.settle({ ...request, id: "x", cost: 0 }),
      limiter.release({ ...request, id: "x" }),
    ]);
    expect(itemsOf(0)).toEqual([
      { op: "check", ...request },
      { op: "consume", ...request, cost: 2, idempotency_key: "mine" },
      { op: "consume", ...request, subject: { user: "b" }, idempotency_key: expect.any(String), attempt: 1 },
      { op: "settle", ...request, id: "x", cost: 0 },
      { op: "release", ...request, id: "x" },
    ]);
  });

  test("are answered in any order of their messages", async () => {
    const held: (() => void)[] = [];
    const { consume, arrived } = await inSession((socket, message) => held.push(() => echo(socket, message)));
    const decisions: Promise<Decision>[] = [];
    for (const [i, user] of ["a", "b", "c"].entries()) {
      decisions.push(consume(user));
      await arrived(i + 1);
    }
    for (const answer of held.reverse()) answer();
    expect((await Promise.all(decisions)).map(userOf)).toEqual(["a", "b", "c"]);
  });

  test("fill messages of at most 100 requests and 64 KiB, and a call too long for a message goes by HTTP", async () => {
    const { texts, paths, consume, users } = await inSession();
    await Promise.all(many(201).map((user) => consume(user)));
    expect(users().map(({ length }) => length)).toEqual([100, 100, 1]);
    texts.length = 0;
    const long = "ü".repeat(900);
    await Promise.all(many(80).map((i) => consume(`${i}${long}`)));
    const bytes = texts.map((text) => Buffer.byteLength(text));
    expect(Math.max(...bytes)).toBeLessThanOrEqual(65_536);
    expect(bytes[0]).toBeGreaterThan(65_536 - 2_100);
    expect(paths).toEqual([]);
    await consume("x".repeat(2_100), { signal: AbortSignal.timeout(2_000) }).catch(() => {});
    expect(paths[0]).toBe("/v1/consume");
  });

  test("wait from 1,000 unanswered requests on, until some are answered", async () => {
    const held: (() => void)[] = [];
    const { consume, arrived, users } = await inSession((socket, message) => held.push(() => echo(socket, message)));
    const decisions = Promise.all(many(1_001).map((user) => consume(user)));
    await arrived(10);
    const later = consume("later");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(users().flat()).toHaveLength(1_000);
    held.shift()?.();
    await arrived(11);
    expect(users().at(-1)).toEqual(["1000", "later"]);
    for (const answer of held) answer();
    expect((await decisions).map(userOf)).toEqual(many(1_001));
    expect(userOf(await later)).toBe("later");
  });

  test("that are cancelled before they are sent are never sent", async () => {
    const { consume, users } = await inSession();
    const cancel = new AbortController();
    const cancelled = reasonOf(consume("b", { signal: cancel.signal }));
    const other = consume("c");
    cancel.abort("enough");
    expect(await cancelled).toBe("enough");
    await other;
    expect(users()).toEqual([["c"]]);
  });

  test("that are cancelled in flight leave the others their answers", async () => {
    const held: (() => void)[] = [];
    const { consume, arrived } = await inSession((socket, message) => held.push(() => echo(socket, message)));
    const cancel = new AbortController();
    const cancelled = reasonOf(consume("a", { signal: cancel.signal, idempotencyKey: "mine" }));
    const other = consume("b");
    await arrived(1);
    cancel.abort("enough");
    expect(await cancelled).toBe("enough");
    for (const answer of held) answer();
    expect(userOf(await other)).toBe("b");
  });

  test("each have a deadline that an unanswered message does not extend", async () => {
    const { consume } = await inSession(() => {}, { deadlineMs: 300 });
    for (const decision of await Promise.all([consume("a"), consume("b")]))
      expect(decision).toMatchObject({ degraded: true, error: expect.any(UnavailableError) });
  });
});

describe("calls are sent again with their keys and attempt numbers after", () => {
  const onFirst =
    (behaviour: OnMessage): OnMessage =>
    (socket, message, nth) =>
      nth === 1 ? behaviour(socket, message, nth) : echo(socket, message);
  const says = (text: string) => onFirst((socket) => socket.send(text));
  const changes = (change: (results: unknown[]) => unknown[]) =>
    onFirst((socket, message) => echo(socket, message, change));

  test.each<[string, OnMessage, number]>([
    ["a session that is killed", onFirst((socket) => socket.terminate()), 2],
    ["a session that is closed for a deploy", onFirst((socket) => socket.close(1_012)), 2],
    ["a text that is no answer", says("<html>"), 2],
    ["an answer to a message that was not sent", says('{"id":7,"results":[]}'), 2],
    ["an error that names no message", says('{"id":null,"error":{"status":400}}'), 2],
    ["silence", onFirst(() => {}), 2],
    ["an error of status 503", says('{"id":0,"error":{"status":503,"detail":"Too many."}}'), 1],
    ["an answer without results", says('{"id":0}'), 1],
    ["too few results", changes((results) => results.slice(1)), 1],
    ["results that are no results", changes((results) => results.map(() => 1)), 1],
    ["results of status 503", changes((results) => results.map(() => ({ status: 503, body: {} }))), 1],
  ])("%s", async (_, onMessage, sessions) => {
    const { consume, messages, handshakes, itemsOf } = await inSession(onMessage, { deadlineMs: 5_000 });
    const decisions = await Promise.all([consume("a"), consume("b", { idempotencyKey: "mine" })]);
    expect(decisions.map(userOf)).toEqual(["a", "b"]);
    const again = messages.slice(1).flatMap(({ requests }) => requests);
    const ofUser = (name: string) => again.find(({ subject }) => subject.user === name);
    expect(ofUser("a")).toEqual({ ...itemsOf(0)[0], attempt: 2 });
    expect(ofUser("b")).toEqual({ ...itemsOf(0)[1] });
    expect(handshakes).toHaveLength(sessions);
  });
});

test("a message that is refused as a whole throws its problem to each call, and the session goes on", async () => {
  const { consume, handshakes } = await inSession((socket, message, nth) =>
    nth === 1 ? socket.send('{"id":0,"error":{"status":400,"detail":"No."}}') : echo(socket, message),
  );
  for (const error of await Promise.all([consume("a"), consume("b")].map(reasonOf)))
    expect(error).toEqual(new InvalidRequestError(400, "No."));
  expect(userOf(await consume("c"))).toBe("c");
  expect(handshakes).toHaveLength(1);
});

test("a session that ends with 4401 is a refused token, and a later call opens another", async () => {
  const { limiter, consume, handshakes, log } = await inSession((socket, message, nth) =>
    nth <= 2 ? socket.close(4_401, "The token is not in force.") : echo(socket, message),
  );
  expect(await consume("a")).toMatchObject({ allowed: false, error: expect.any(UnauthorizedError) });
  const settled = reasonOf(limiter.settle({ policy: "chat", subject: { user: "a" }, id: "k", cost: 0 }));
  expect(await settled).toEqual(new UnauthorizedError("The token is not in force."));
  expect(userOf(await consume("b"))).toBe("b");
  expect(handshakes).toHaveLength(3);
  expect(log.mock.calls).toEqual([
    ['The limiter refuses the token. "deny" is decided.', expect.any(UnauthorizedError)],
  ]);
});

describe("an idle session", () => {
  /** A client with an idle session, on a clock that the test moves. */
  async function idle(isPonging: () => boolean, onMessage?: OnMessage) {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const session = await inSession(onMessage, { isPonging });
    await session.consume("a");
    const pings = () => session.texts.filter((text) => text === "ping").length;
    const until = async (isTrue: () => boolean) => {
      for (let i = 0; i < 10_000 && !isTrue(); i++) await nextTurn();
      expect(isTrue()).toBe(true);
    };
    return { ...session, pings, until };
  }

  test("is pinged after 30 s without a message, and kept if it answers", async () => {
    const { consume, pings, until, handshakes } = await idle(() => true);
    vi.advanceTimersByTime(20_000);
    await consume("b");
    vi.advanceTimersByTime(29_000);
    await nextTurn();
    expect(pings()).toBe(0);
    for (let i = 1; i < 4; i++) {
      vi.advanceTimersByTime(i === 1 ? 1_001 : 30_001);
      await until(() => pings() === i);
      // Its answer comes after the pong.
      await consume("c");
    }
    expect(handshakes).toHaveLength(1);
  });

  test("that has left a message unanswered is replaced, though it answers others", async () => {
    const { consume, arrived, handshakes, sockets, until } = await idle(
      () => true,
      (socket, message, nth) => nth === 2 || echo(socket, message),
    );
    const cancel = new AbortController();
    const lost = reasonOf(consume("lost", { signal: cancel.signal, idempotencyKey: "mine" }));
    await arrived(2);
    cancel.abort("enough");
    expect(await lost).toBe("enough");
    vi.advanceTimersByTime(20_000);
    expect(userOf(await consume("b"))).toBe("b");
    vi.advanceTimersByTime(9_000);
    expect(userOf(await consume("c"))).toBe("c");
    expect(handshakes).toHaveLength(1);
    vi.advanceTimersByTime(30_000);
    await until(() => sockets[0]?.readyState === 3);
    const later = consume("d");
    await until(() => {
      vi.advanceTimersByTime(10);
      return sockets.length === 2;
    });
    expect(userOf(await later)).toBe("d");
  });

  test("that does not answer a ping is replaced by another", async () => {
    const { consume, pings, until, handshakes, sockets } = await idle(() => false);
    vi.advanceTimersByTime(30_000);
    await until(() => pings() === 1);
    vi.advanceTimersByTime(5_000);
    await until(() => sockets.length === 2);
    expect(userOf(await consume("b"))).toBe("b");
    expect(handshakes).toHaveLength(2);
  });
});

test("close ends the session when the last call is answered, and a later call opens another", async () => {
  const held: (() => void)[] = [];
  const { limiter, consume, arrived, sockets } = await inSession((socket, message, nth) =>
    nth === 1 ? held.push(() => echo(socket, message)) : echo(socket, message),
  );
  limiter.close();
  const first = consume("a");
  await arrived(1);
  const code = new Promise((resolve) => sockets[0]?.on("close", resolve));
  limiter.close();
  for (const answer of held) answer();
  expect(userOf(await first)).toBe("a");
  expect(await code).toBe(1_000);
  expect(userOf(await consume("b"))).toBe("b");
  expect(sockets).toHaveLength(2);
});
