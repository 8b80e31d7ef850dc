import { once } from "node:events";
import type { Server } from "node:http";
import { createAdaptorServer, type HttpBindings, serve, upgradeWebSocket } from "@hono/node-server";
import { Hono, type MiddlewareHandler } from "hono";
import { timeout } from "hono/timeout";
import { handle } from "hono/vercel";
import { describe, expect, expectTypeOf, onTestFinished } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Charge } from "../../src/middleware/hono.js";
import { rateLimit } from "../../src/middleware/hono.js";
import type { TestLimiter } from "../../src/testing/index.js";
import { listen } from "./frameworks.js";
import { test } from "./limiter.js";

type SocketServer = NonNullable<Parameters<typeof serve>[0]["websocket"]>["server"];

const POST = { method: "POST" };

const RELEASES = { releaseAfterResponse: true };

const limitOf = ({ client }: TestLimiter) => rateLimit(client, { trustedProxies: 0 });

describe("an application of Hono", () => {
  test("is tested without a server, from 127.0.0.1", async ({ limiter }) => {
    const app = new Hono().post("/message", limitOf(limiter)("chat"), (c) => {
      expectTypeOf(c.get("rateLimit")).toEqualTypeOf<Charge>();
      return c.text(c.get("rateLimit").decision.policy);
    });
    for (let i = 0; i < 5; i++) expect(await (await app.request("/message", POST)).text()).toBe("chat");
    expect((await app.request("/message", POST)).status).toBe(429);
    const { limits } = await limiter.client.check({ policy: "chat", subject: { ip: "127.0.0.1" } });
    expect(limits.map(({ used }) => used)).toEqual([5, 5, 5]);
  });

  test("is given the peer's address by Deno and by Bun", async ({ limiter }) => {
    const app = new Hono().post("/message", limitOf(limiter)("chat"), (c) => c.text("ok"));
    const requestIP = () => ({ address: "203.0.113.2" });
    for (const env of [{ remoteAddr: { hostname: "203.0.113.1" } }, { requestIP }, { server: { requestIP } }])
      expect((await app.request("/message", POST, env)).status).toBe(200);
    const used = async (ip: string) =>
      (await limiter.client.check({ policy: "chat", subject: { ip } })).limits.map(({ used }) => used);
    expect([await used("203.0.113.1"), await used("203.0.113.2")]).toEqual([
      [1, 1, 1],
      [2, 2, 2],
    ]);
  });

  test("is a route handler of Next, behind the proxy of its host", async ({ limiter }) => {
    const limit = rateLimit(limiter.client, { trustedProxies: 1 });
    const POST = handle(new Hono().post("/api/message", limit("chat"), (c) => c.text("ok")));
    const headers = { "X-Forwarded-For": "198.51.100.1, 203.0.113.7" };
    const response = await POST(new Request("http://x/api/message", { method: "POST", headers }));
    expect(response.status).toBe(200);
    const { limits } = await limiter.client.check({ policy: "chat", subject: { ip: "203.0.113.7" } });
    expect(limits[0]?.used).toBe(1);
  });

  test("may answer with a response that can't be changed", async ({ limiter }) => {
    const app = new Hono().post("/message", limitOf(limiter)("chat"), () => Response.redirect("http://example.com/"));
    const response = await app.request("/message", POST);
    expect([response.status, response.headers.get("RateLimit")]).toEqual([302, expect.stringContaining("caller/60s")]);
  });

  test("may answer with an upgrade, which can't be copied, as on Deno", async ({ limiter }) => {
    const upgrade = Object.defineProperty(new Response(null), "status", { value: 101 });
    const app = new Hono().get("/", limitOf(limiter)("llm", RELEASES), () => upgrade);
    expect(await app.request("/", { headers: { Upgrade: "websocket" } })).toBe(upgrade);
    expect((await check(limiter)).limits[1]?.used).toBe(1);
  });

  test("shows all policies of a route in the headers", async ({ limiter }) => {
    const limit = limitOf(limiter);
    const app = new Hono().post("/message", limit("chat"), limit("llm"), (c) => c.text("ok"));
    const policies = (await app.request("/message", POST)).headers.get("RateLimit-Policy");
    expect(policies?.match(/"[\w/-]+"(?=;q=)/g)).toEqual([
      '"caller/60s"',
      '"caller/300s-concurrent"',
      '"caller/60s"',
      '"caller/3600s"',
      '"ip/60s"',
    ]);
  });

  test("answers in a way of its own", async ({ limiter }) => {
    const limit = rateLimit(limiter.client, {
      trustedProxies: 0,
      reply: ({ status, decision }, c) => c.html(`<p>Wait ${decision?.retryAfterSeconds} s`, status),
    });
    const app = new Hono().use(limit("chat")).get("/", (c) => c.text("ok"));
    for (let i = 0; i < 5; i++) await app.request("/");
    const denied = await app.request("/");
    expect([denied.status, await denied.text()]).toEqual([429, "<p>Wait 60 s"]);
  });

  test("releases a HEAD, whose body nobody reads, and a response without a body", async ({ limiter }) => {
    const app = new Hono()
      .use(limitOf(limiter)("llm", RELEASES))
      .get("/", (c) => c.text("ok"))
      .get("/empty", (c) => c.body(null, 204));
    for (const [path, method] of [
      ["/", "HEAD"],
      ["/empty", "GET"],
    ] as const)
      for (let i = 0; i < 3; i++) {
        expect((await app.request(path, { method })).ok).toBe(true);
        await expect.poll(async () => (await check(limiter)).limits[1]?.used).toBe(0);
      }
  });

  test("gives back a stream that fails", async ({ limiter }) => {
    const broken = new ReadableStream({ pull: (controller) => controller.error(new Error("broken")) });
    const app = new Hono().get("/", limitOf(limiter)("llm", { refund: (status) => status === 500 }), (c) =>
      c.body(broken),
    );
    const response = await app.request("/");
    expect((await check(limiter)).limits[1]?.used).toBe(1);
    await expect(response.text()).rejects.toThrow("broken");
    await expect.poll(async () => (await check(limiter)).limits.map(({ used }) => used)).toEqual([0, 0]);
  });

  test("releases a stream that nobody reads", async ({ limiter }) => {
    const app = new Hono().get("/", limitOf(limiter)("llm", RELEASES), (c) => c.text("ok"));
    const response = await app.request("/");
    expect((await check(limiter)).limits[1]?.used).toBe(1);
    await response.body?.cancel();
    await expect.poll(async () => (await check(limiter)).limits[1]?.used).toBe(0);
  });

  test("releases and gives back what throws no Error", async ({ limiter }) => {
    const app = new Hono().get("/", limitOf(limiter)("llm", { refund: (status) => status >= 500 }), () => {
      throw "text";
    });
    await expect(async () => app.request("/")).rejects.toBe("text");
    await expect.poll(async () => (await check(limiter)).limits.map(({ used }) => used)).toEqual([0, 0]);
  });
});

describe("an application of Hono on Node releases and gives back", () => {
  test("what a timeout has answered before, once its handler ends", async ({ limiter }) => {
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const app = new Hono().use(timeout(50), limitOf(limiter)("llm", { refund: (status) => status === 504 }));
    app.get("/", async (c) => {
      await finished;
      return c.text("too late");
    });
    const url = await listen(createAdaptorServer(app) as Server);
    expect((await fetch(url)).status).toBe(504);
    expect((await check(limiter)).limits.map(({ used }) => used)).toEqual([1, 1]);
    finish();
    await expect.poll(async () => (await check(limiter)).limits.map(({ used }) => used)).toEqual([0, 0]);
  });

  test("what fails after its visitor has left", async ({ limiter }) => {
    const visitor = new AbortController();
    const app = new Hono<{ Bindings: HttpBindings }>();
    app.get("/", limitOf(limiter)("llm", { refund: (status) => status === 500 }), async (c) => {
      visitor.abort();
      await once(c.env.outgoing, "close");
      return c.text("failed", 500);
    });
    const url = await listen(createAdaptorServer(app) as Server);
    await expect(fetch(url, { signal: visitor.signal })).rejects.toThrow("aborted");
    await expect.poll(async () => (await check(limiter)).limits.map(({ used }) => used)).toEqual([0, 0]);
  });

  test("what an error further outside has replaced", async ({ limiter }) => {
    const fail: MiddlewareHandler = async (_, next) => {
      await next();
      throw new Error("further outside");
    };
    const app = new Hono().use(fail, limitOf(limiter)("llm", { refund: (status) => status === 500 }));
    app.onError((_, c) => c.text("failed", 500)).get("/", (c) => c.text("ok"));
    const url = await listen(createAdaptorServer(app) as Server);
    expect((await fetch(url)).status).toBe(500);
    await expect.poll(async () => (await check(limiter)).limits.map(({ used }) => used)).toEqual([0, 0]);
  });
});

describe("a WebSocket of Hono on Node", () => {
  /** Serves a WebSocket at the policy's path that echoes, and releases its charge when it is closed. */
  async function serveSockets(limiter: TestLimiter, policy: string): Promise<() => WebSocket> {
    const app = new Hono().get(
      "/",
      limitOf(limiter)(policy, { ...RELEASES, refund: (status) => status >= 200 }),
      upgradeWebSocket((c) => ({
        onMessage: (event, socket) => socket.send(event.data.toString()),
        onClose: () => void c.get("rateLimit").release(),
      })),
    );
    // Under `exactOptionalPropertyTypes` the two packages disagree about options that may be undefined.
    const sockets = new WebSocketServer({ noServer: true }) as unknown as SocketServer;
    const server = serve({
      fetch: app.fetch,
      port: 0,
      hostname: "127.0.0.1",
      websocket: { server: sockets },
    });
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("There is no port.");
    return () => new WebSocket(`ws://127.0.0.1:${address.port}`);
  }

  test("is denied before the upgrade", async ({ limiter }) => {
    const connect = await serveSockets(limiter, "chat");
    for (let i = 0; i < 5; i++) {
      const socket = connect();
      await once(socket, "open");
      socket.send("hello");
      expect(String((await once(socket, "message"))[0])).toBe("hello");
      socket.close();
    }
    const [, response] = await once(connect(), "unexpected-response");
    expect([response.statusCode, response.headers["retry-after"]]).toEqual([429, "60"]);
    expect((await limiter.client.check({ policy: "chat", subject: { ip: "127.0.0.1" } })).limits[0]?.used).toBe(5);
  });

  test("holds its place until its handler releases it", async ({ limiter }) => {
    const connect = await serveSockets(limiter, "llm");
    const sockets = [connect(), connect()];
    await Promise.all(sockets.map((socket) => once(socket, "open")));
    expect((await once(connect(), "unexpected-response"))[1].statusCode).toBe(429);
    for (const socket of sockets) socket.close();
    await expect.poll(async () => (await check(limiter)).limits[1]?.used).toBe(0);
  });
});

const check = ({ client }: TestLimiter) => client.check({ policy: "llm", subject: { ip: "127.0.0.1" } });
