import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import PackageSocket from "ws";
import { Limiter, type LimiterOptions, UnauthorizedError, UnavailableError } from "../../src/client/index.js";
import { ADMITTED, answers, type Behaviour, problem } from "./server";
import { answerLikeHttp, refuse, startSessionServer } from "./session-server";

const AMPLE_MS = 30_000;
const MINUTE_MS = 60_000;
const request = { policy: "chat", subject: { user: "u" } };
const serves: Behaviour = answers(200, ADMITTED);
const token = "t";

function limiterAt(url: string, options: Partial<LimiterOptions> = {}): Limiter {
  return new Limiter({ url, token, deadlineMs: AMPLE_MS, log: () => {}, ...options });
}

type Options = NonNullable<Parameters<typeof startSessionServer>[0]>;

/** A server that answers all calls over HTTP and in sessions. */
const server = (options: Options = {}) =>
  startSessionServer({
    onMessage: (socket, message) => answerLikeHttp(socket, message, serves),
    onRequest: serves,
    ...options,
  });

/** A monotonic clock that the test moves on. No timer fires by that. */
function movableClock(): (ms: number) => void {
  const now = performance.now.bind(performance);
  let movedMs = 0;
  const spy = vi.spyOn(performance, "now").mockImplementation(() => now() + movedMs);
  onTestFinished(() => void spy.mockRestore());
  return (ms) => {
    movedMs += ms;
  };
}

const isAllowed = async (limiter: Limiter) => {
  const { allowed, degraded } = await limiter.consume(request);
  return allowed && !degraded;
};

describe("calls go by HTTP, and a session is tried again after a minute, if the handshake", () => {
  test.each<[string, Options["onHandshake"]]>([
    ["is refused with 426", (stream) => refuse(stream, 426)],
    ["is refused with 404", (stream) => refuse(stream, 404)],
    ["is refused with 405", (stream) => refuse(stream, 405)],
    ["is refused with 501", (stream) => refuse(stream, 501)],
    ["is refused with 502 by a proxy", (stream) => refuse(stream, 502)],
    ["is answered like a request by a proxy that does not upgrade", (stream) => refuse(stream, 200)],
    ["is cut off", (stream) => void stream.destroy() === true],
  ])("%s", async (_, onHandshake) => {
    const { url, handshakes, paths } = await server({
      onHandshake: (stream, nth) => (nth === 1 ? (onHandshake?.(stream, nth) ?? false) : true),
    });
    const limiter = limiterAt(url);
    const passes = movableClock();
    for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
    passes(MINUTE_MS - 5_000);
    expect(await isAllowed(limiter)).toBe(true);
    expect([handshakes.length, paths.length]).toEqual([1, 4]);
    passes(MINUTE_MS);
    expect(await isAllowed(limiter)).toBe(true);
    expect([handshakes.length, paths.length]).toEqual([2, 4]);
  });
});

test("a handshake without an answer delays the first call by a part of its deadline, and no later one", async () => {
  const { url, handshakes, paths } = await server({ onHandshake: () => false });
  const limiter = limiterAt(url, { deadlineMs: 4_000 });
  expect(await isAllowed(limiter)).toBe(true);
  const startedMs = performance.now();
  for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
  expect(performance.now() - startedMs).toBeLessThan(1_000);
  expect([handshakes.length, paths.length]).toEqual([1, 4]);
});

test("a handshake that is never answered is given up after 10 s, and tried again after a minute", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const { url, handshakes, paths } = await server({ onHandshake: () => false });
  const limiter = limiterAt(url, { deadlineMs: 4_000 });
  const asked = isAllowed(limiter);
  while (handshakes.length === 0) await nextTurn();
  vi.advanceTimersByTime(1_000);
  expect(await asked).toBe(true);
  vi.advanceTimersByTime(9_500);
  for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
  vi.advanceTimersByTime(MINUTE_MS - 2_000);
  expect(await isAllowed(limiter)).toBe(true);
  expect([handshakes.length, paths.length]).toEqual([1, 5]);
  vi.advanceTimersByTime(2_000);
  const again = isAllowed(limiter);
  while (handshakes.length === 1) await nextTurn();
  vi.advanceTimersByTime(1_000);
  expect(await again).toBe(true);
});

test("a slow handshake is used once it succeeds", async () => {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { url, sockets, paths } = await slowServer(opened);
  const limiter = limiterAt(url, { deadlineMs: 400 });
  expect(await isAllowed(limiter)).toBe(true);
  open();
  await vi.waitFor(() => expect(sockets).toHaveLength(1), AMPLE_MS);
  await vi.waitFor(async () => {
    const before = paths.length;
    await limiter.consume(request);
    expect(paths).toHaveLength(before);
  }, AMPLE_MS);
});

/** A proxy in front of `server` that holds back upgrades until it is told. */
async function slowServer(opened: Promise<void>) {
  const behind = await server();
  const proxy: Server = createServer((request, response) => {
    behind.paths.push(request.url ?? "");
    request.resume();
    serves(response, request, undefined);
  });
  proxy.on("upgrade", async (request, stream, head) => {
    await opened;
    const upstream = new Socket().connect(Number(new URL(behind.url).port), "127.0.0.1");
    const lines = request.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : []));
    upstream.write([`GET ${request.url} HTTP/1.1`, ...lines, "", ""].join("\r\n"));
    upstream.write(head);
    upstream.pipe(stream).pipe(upstream);
    for (const end of [upstream, stream]) end.on("error", () => {});
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return { ...behind, url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
}

test("sessions that end again and again without an answer are given up for HTTP", async () => {
  const { url, handshakes, paths } = await server({ onMessage: (socket) => socket.terminate() });
  const limiter = limiterAt(url);
  for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
  expect([handshakes.length, paths.length]).toEqual([2, 3]);
});

test("a refused handshake is not remembered while HTTP does not work either", async () => {
  const { url, paths, sockets } = await server({
    onHandshake: (stream, nth) => nth > 1 || refuse(stream, 503),
    onRequest: answers(503, ""),
  });
  expect(await isAllowed(limiterAt(url))).toBe(true);
  expect(sockets).toHaveLength(1);
  expect(paths.length).toBeGreaterThan(1);
});

test("a handshake that was refused while the service was starting is not remembered", async () => {
  const { url, handshakes, paths } = await server({
    onHandshake: (stream, nth) => nth > 1 || refuse(stream, 502),
    onRequest: (response, incoming, body) => (paths.length < 2 ? answers(502, "") : serves)(response, incoming, body),
  });
  const limiter = limiterAt(url);
  for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
  expect([handshakes.length, paths.length]).toEqual([2, 2]);
});

test("a token that is refused in the handshake is refused by its answer over HTTP", async () => {
  const { url } = await server({ onHandshake: (stream) => refuse(stream, 401), onRequest: problem(401, "No.") });
  expect((await limiterAt(url).consume(request)).error).toEqual(new UnauthorizedError("No."));
  const decision = await limiterAt(url, { transport: "session" }).consume(request);
  expect(decision).toMatchObject({ allowed: false, error: expect.any(UnauthorizedError) });
});

test('transport "session" does not fall back, and tries handshakes with back-off', async () => {
  const { url, handshakes, paths } = await server({ onHandshake: (stream) => refuse(stream, 426) });
  const limiter = limiterAt(url, { transport: "session", deadlineMs: 1_500 });
  const decisions = await Promise.all(Array.from({ length: 100 }, () => limiter.consume(request)));
  for (const { error } of decisions) expect(error).toBeInstanceOf(UnavailableError);
  expect(decisions[0]?.error?.message).toBe(`${url}/v1/session can't be reached: Unexpected server response: 426`);
  expect(handshakes.length).toBeGreaterThan(2);
  expect(handshakes.length).toBeLessThan(20);
  expect(paths).toEqual([]);
});

describe("without the package ws", () => {
  afterEach(() => {
    vi.doUnmock("ws");
    vi.unstubAllGlobals();
  });

  /** A client on a runtime without `ws`, with the WebSocket of a platform if one is given. */
  function stub(Platform?: unknown, agent?: string): void {
    vi.doMock("ws", () => {
      throw new Error("Cannot find package 'ws'");
    });
    vi.stubGlobal("WebSocket", Platform);
    if (agent !== undefined) vi.stubGlobal("navigator", { userAgent: agent });
  }

  /** A WebSocket as platforms have it: it sets no headers, and nothing of Node is to be seen. */
  class PlatformSocket extends EventTarget {
    constructor(url: string, protocols: string[]) {
      super();
      const inner = new PackageSocket(url, protocols);
      const self = this as unknown as Record<string, ((event: unknown) => void) | undefined>;
      for (const name of ["onopen", "onmessage", "onerror", "onclose"] as const)
        inner[name] = (event: { data?: unknown; code?: number; reason?: string }) => {
          const { data, code, reason } = event;
          self[name]?.({ data, code, reason });
        };
      Object.assign(this, {
        send: (text: string) => inner.send(text),
        close: (code?: number) => inner.close(code),
      });
    }
  }

  test("calls go by HTTP on a runtime without a WebSocket", async () => {
    stub();
    const { url, handshakes, paths } = await server();
    const limiter = limiterAt(url);
    for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
    expect([handshakes.length, paths.length]).toEqual([0, 3]);
  });

  test("the token goes as a subprotocol of the platform's WebSocket", async () => {
    stub(PlatformSocket);
    const { url, handshakes, paths } = await server();
    const limiter = limiterAt(url, { token: "to-ken.1~" });
    expect(await isAllowed(limiter)).toBe(true);
    expect(handshakes[0]?.headers["sec-websocket-protocol"]?.split(/, ?/)).toEqual([
      "exact-limiter.v1",
      "bearer.to-ken.1~",
    ]);
    expect(handshakes[0]?.headers.authorization).toBeUndefined();
    expect(paths).toEqual([]);
    limiter.close();
  });

  test.each(["to/ken", "token=", "a,b", 'a"b'])(
    "calls go by HTTP for the token %s, which can be no subprotocol",
    async (token) => {
      stub(PlatformSocket);
      const { url, handshakes, paths } = await server();
      expect(await isAllowed(limiterAt(url, { token }))).toBe(true);
      expect([handshakes.length, paths]).toEqual([0, ["/v1/consume"]]);
    },
  );

  test("calls go by HTTP where the platform's handshake is refused", async () => {
    stub(PlatformSocket);
    const { url, handshakes, paths } = await server({ onHandshake: (stream) => refuse(stream, 426) });
    const limiter = limiterAt(url);
    for (let i = 0; i < 3; i++) expect(await isAllowed(limiter)).toBe(true);
    expect([handshakes.length, paths.length]).toEqual([1, 3]);
  });

  test("calls go by HTTP on Workers, where no WebSocket outlives its request", async () => {
    stub(PlatformSocket, "Cloudflare-Workers");
    const { url, handshakes, paths } = await server();
    expect(await isAllowed(limiterAt(url))).toBe(true);
    expect([handshakes.length, paths.length]).toEqual([0, 1]);
  });

  test("a session that keeps the process alive is closed when it has been idle for 5 s", async () => {
    stub(PlatformSocket);
    const { url, sockets } = await server();
    const limiter = limiterAt(url);
    expect(await isAllowed(limiter)).toBe(true);
    const code = new Promise((resolve) => sockets[0]?.on("close", resolve));
    expect(await code).toBe(1_000);
    expect(await isAllowed(limiter)).toBe(true);
    expect(sockets).toHaveLength(2);
  }, 20_000);
});

test("calls go by HTTP with an own fetch, which may reach what no WebSocket does", async () => {
  const { url, handshakes, paths } = await server();
  expect(await isAllowed(limiterAt(url, { fetch: (url, init) => fetch(url, init) }))).toBe(true);
  expect([handshakes.length, paths.length]).toEqual([0, 1]);
});
