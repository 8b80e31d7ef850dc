import { describe, expect, onTestFinished, test, vi } from "vitest";
import { InvalidRequestError, Limiter, type LimiterOptions, UnavailableError } from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, hangs, serves, startServer, TRANSPORTS } from "./server";
import { startSessionServer } from "./session-server";

const request = { policy: "chat", subject: { user: "u" } };
const AMPLE_MS = 30_000;
const [LIMIT] = ADMITTED.limits;

const withLimit = (fields: object) => ({ limits: [{ ...LIMIT, ...fields }] });

/** The first field of each has a wrong type. */
const WRONG_TYPES: readonly object[] = [
  { allowed: "yes" },
  { allowed: 1 },
  { id: 7 },
  { policy: null },
  { cost: "1" },
  { cost: true },
  { replayed: null },
  { degraded: 0 },
  { retry_after_seconds: 5 },
  { retry_after_seconds: "soon", allowed: false },
  { limits: {} },
  { limits: ["a"] },
  { shadow: "no" },
  { would_deny: null },
  withLimit({ layer: 1 }),
  withLimit({ key: 1 }),
  withLimit({ key: undefined }),
  withLimit({ limit: "5" }),
  withLimit({ window_seconds: null }),
  withLimit({ used: "1" }),
  withLimit({ used: 1.5 }),
  withLimit({ remaining: true }),
  withLimit({ reset_seconds: [] }),
  withLimit({ shadow: 1 }),
  withLimit({ concurrent: "yes" }),
  withLimit({ override: 7 }),
];

describe.each(TRANSPORTS)("over %s, an answer", (transport) => {
  const limiterAt = (url: string, options: Partial<LimiterOptions> = {}) =>
    new Limiter({ url, token: "t", deadlineMs: AMPLE_MS, log: () => {}, transport, ...options });

  test.each(WRONG_TYPES.map((fields) => [JSON.stringify(fields), fields] as const))(
    "with %s is no decision: the client asks again",
    async (_, fields) => {
      const { url, received } = await startServer(answers(200, { ...ADMITTED, ...fields }), serves);
      expect(await limiterAt(url).consume(request)).toMatchObject({ allowed: true, id: "k", degraded: false });
      expect(received).toHaveLength(2);
    },
  );

  test.each<[string, Behaviour]>([
    ["of status 400 with mistakes that are none", answers(400, { status: 400, detail: "No.", errors: ["a"] })],
    ["of status 400 with mistakes without a pointer", answers(400, { status: 400, detail: "No.", errors: [{}] })],
    ["of status 400 of another service", answers(400, { detail: "No." })],
    ["of status 404 of a path", answers(404, { status: 404, detail: "There is no such path." })],
    ["of status 403 of a firewall", answers(403, { detail: "blocked" })],
    ["nested too deeply", answers(200, `{"limits":${"[".repeat(100_000)}`)],
  ])("%s says nothing about the request: the client asks again", async (_, behaviour) => {
    const { url, received } = await startServer(behaviour, serves);
    expect(await limiterAt(url).consume(request)).toMatchObject({ allowed: true, degraded: false });
    expect(received).toHaveLength(2);
  });

  test.each<[string, object]>([
    ["another cost", { cost: 4 }],
    ["another decision", { id: "l" }],
    ["another policy", { policy: "upload" }],
    ["an id of a wrong type", { id: 7 }],
    ["a cost of a wrong type", { cost: "3" }],
  ])("to a settle about %s is not taken: the client asks again", async (_, fields) => {
    const { url, received } = await startServer(answers(200, { ...ADMITTED, cost: 3, ...fields }), serves);
    expect(await limiterAt(url).settle({ ...request, id: "k", cost: 3 })).toMatchObject({ id: "k", cost: 3 });
    expect(received).toHaveLength(2);
  });

  test.each([
    ["no key", "u"],
    ["the key of inline limits", "inline/u"],
    ["an empty key", ""],
  ])("whose limit has %s is about another subject", async (_, key) => {
    const { url, received } = await startServer(answers(200, { ...ADMITTED, ...withLimit({ key }) }), serves);
    expect(await limiterAt(url).consume(request)).toMatchObject({ allowed: true, degraded: false });
    expect(received).toHaveLength(2);
  });

  test.each([
    ["2001:DB8:1:2:3::4", "2001:db8:1:2::/64", true],
    [" 2001:db8:0001:0002:0003:0004:203.0.113.7 ", "2001:db8:1:2::/64", true],
    ["2001:db8:1:3::4", "2001:db8:1:2::/64", false],
    ["2001:db8:1:2:3::4", "2001:db8:1:2:3::/80", true],
    ["2001:db8:1:2:4::4", "2001:db8:1:2:3::/80", false],
    ["::1", "::1/128", true],
    ["::2", "::1/128", false],
    ["::ffff:203.0.113.7", "203.0.113.7", true],
    ["64:ff9b::cb00:7107", "203.0.113.7", true],
    ["::ffff:203.0.113.8", "203.0.113.7", false],
    ["203.0.113.8", "203.0.113.7", false],
    ["203.0.113.8", "2001:db8:1:2::/64", false],
    // Not parsed by the client: the service knows best.
    ["::zzz", "2001:db8:1:2::/64", true],
    ["2001:db8:1:2::1", "2001:db8:1:2::/x", true],
  ])("about the address %s is one by the key ip:%s: %s", async (ip, key, isTaken) => {
    const asked = { policy: "chat", subject: { ip } };
    const right = answers(200, { ...ADMITTED, ...withLimit({ key: `ip:${ip.trim()}` }) });
    const { url, received } = await startServer(
      answers(200, { ...ADMITTED, ...withLimit({ key: `ip:${key}` }) }),
      right,
    );
    expect(await limiterAt(url).consume(asked)).toMatchObject({ degraded: false });
    expect(received).toHaveLength(isTaken ? 1 : 2);
  });

  test("to a request above 8 KiB is not waited for: it is refused before it is sent, and counts as no answer", async () => {
    const { url, received } = await startServer(serves);
    const limiter = limiterAt(url, { onError: "allow" });
    const long = { policy: "chat", subject: { user: "ü".repeat(4_096) } };
    for (const call of [
      () => limiter.consume(long),
      () => limiter.check(long),
      () => limiter.settle({ ...long, id: "k", cost: 0 }),
      () => limiter.release({ ...long, id: "k" }),
    ])
      await expect(call()).rejects.toEqual(new InvalidRequestError(413, "The request is above 8 KiB."));
    expect(received).toEqual([]);
    const key = `user:${"x".repeat(8_000)}`;
    const other = await startServer(answers(200, { ...ADMITTED, ...withLimit({ key }) }));
    const longest = { policy: "chat", subject: { user: "x".repeat(8_000) } };
    expect(await limiterAt(other.url).consume(longest)).toMatchObject({ degraded: false });
  });

  test("is found by ids that are whole numbers and BigInts", async () => {
    const { url, received } = await startServer(serves);
    const limiter = limiterAt(url, { deadlineMs: 50 });
    await limiter.consume({ ...request, idempotencyKey: 9_007_199_254_740_993n });
    await limiter.consume({ ...request, idempotencyKey: 7 });
    // The server answers with another id.
    await limiter.settle({ ...request, id: 9_007_199_254_740_993n, cost: 0 }).catch(() => {});
    await limiter.release({ ...request, id: 7 }).catch(() => {});
    expect(received.slice(0, 2).map(({ key }) => key)).toEqual(['"9007199254740993"', '"7"']);
    const ids = new Set(received.slice(2).map(({ body }) => (body as { readonly id: unknown }).id));
    expect(ids).toEqual(new Set(["9007199254740993", "7"]));
  });

  test.each([1.5, 2 ** 53, true, null, {}])("is not asked for by the id %s: a TypeError names it", async (value) => {
    const { url, received } = await startServer(serves);
    const limiter = limiterAt(url, { onError: "allow" });
    const id = value as unknown as string;
    await expect(limiter.consume({ ...request, idempotencyKey: id })).rejects.toThrow(/^idempotencyKey is .*BigInt$/);
    await expect(limiter.settle({ ...request, id, cost: 0 })).rejects.toThrow(/^id is .*BigInt$/);
    await expect(limiter.release({ ...request, id })).rejects.toThrow(TypeError);
    expect(received).toEqual([]);
  });
});

test("no attempt is made after a pause that took until the deadline", async () => {
  const now = performance.now.bind(performance);
  let movedMs = 0;
  const spy = vi.spyOn(performance, "now").mockImplementation(() => now() + movedMs);
  onTestFinished(() => void spy.mockRestore());
  const fetch = vi.fn(async () => {
    // Long before the end of the pause.
    setTimeout(() => {
      movedMs = 60_000;
    }, 1);
    return new Response("", { status: 503 });
  });
  const limiter = new Limiter({ url: "http://limiter.test", token: "t", deadlineMs: AMPLE_MS, log: () => {}, fetch });
  expect(await limiter.consume(request)).toMatchObject({ degraded: true, error: expect.any(UnavailableError) });
  expect(fetch).toHaveBeenCalledTimes(1);
});

describe("in a session, after an answer about another request", () => {
  test("the session is replaced, and its other calls are sent again", async () => {
    const server = await startSessionServer({
      onMessage: (socket, { id, requests }, nth) => {
        const [item] = requests;
        if (item?.subject.user === "slow" && nth < 3) return;
        const user = nth === 2 ? "other" : item?.subject.user;
        const body = { ...ADMITTED, ...withLimit({ key: `user:${user}` }) };
        socket.send(JSON.stringify({ id, results: [{ status: 200, headers: {}, body }] }));
      },
    });
    const limiter = new Limiter({ url: server.url, token: "t", deadlineMs: AMPLE_MS, transport: "session" });
    const consume = (user: string) => limiter.consume({ policy: "chat", subject: { user } });
    const slow = consume("slow");
    await vi.waitFor(() => expect(server.messages).toHaveLength(1), AMPLE_MS);
    expect(await consume("u")).toMatchObject({ allowed: true, degraded: false });
    expect(server.sockets).toHaveLength(2);
    expect(await slow).toMatchObject({ allowed: true, degraded: false });
  });

  test.each<[string, object]>([
    ["a status of a wrong type", { results: [{ status: "200", headers: {}, body: ADMITTED }] }],
    ["no headers", { results: [{ status: 200, headers: null, body: ADMITTED }] }],
    ["a body that is no object", { results: [{ status: 200, headers: {}, body: "<html>" }] }],
    ["an error of a status that only single requests have", { error: { status: 404, detail: "No." } }],
    ["an error without a status", { error: { detail: "No." } }],
  ])("with %s, the client asks again in the same session", async (_, fields) => {
    const server = await startSessionServer({
      onMessage: (socket, { id }, nth) => {
        const right = { results: [{ status: 200, headers: {}, body: { ...ADMITTED, cost: 0 } }] };
        socket.send(JSON.stringify({ id, ...(nth % 2 === 1 ? fields : right) }));
      },
    });
    const limiter = new Limiter({ url: server.url, token: "t", deadlineMs: AMPLE_MS, transport: "session" });
    expect(await limiter.consume(request)).toMatchObject({ allowed: true, degraded: false });
    expect(await limiter.settle({ ...request, id: "k", cost: 0 })).toMatchObject({ id: "k" });
    expect([server.messages.length, server.sockets.length]).toEqual([4, 1]);
  });
});

test("a client without calls opens no connection", async () => {
  const { url, sockets } = await startServer(hangs);
  new Limiter({ url, token: "t" }).close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(sockets.size).toBe(0);
});
