import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { makeToken } from "../../src/cli/token/make";
import { ServiceProcess } from "../../tools/service-process";
import { temporaryFolder } from "../../tools/temporary-folder";
import { freePort, type Places, type ProxyKind, RecipeProxy, recipeIn, USER } from "./proxy";

const ADMIN = { Authorization: "Bearer admin-token" };
const { token, line } = makeToken({ name: "proxy", role: "caller", policies: ["chat"] });
const KINDS: ProxyKind[] = ["caddy", "nginx"];

let service: ServiceProcess;
let app: Server;
const proxies = new Map<ProxyKind, RecipeProxy>();

beforeAll(async () => {
  service = await ServiceProcess.start({
    LIMITER_GATE: "hops=1,user=X-User-Id",
    LIMITER_TOKEN_DIGESTS: line,
    LIMITER_ADMIN_TOKENS: "admin-token",
    LIMITER_DATA_DIR: temporaryFolder(),
  });
  app = await startApp();
  for (const kind of KINDS) proxies.set(kind, await startProxy(kind));
});

afterAll(async () => {
  for (const proxy of proxies.values()) await proxy.stop();
  app?.close().closeAllConnections();
  await service?.stop();
});

/** An application that answers with what it was sent, and echoes over WebSockets. */
async function startApp(): Promise<Server> {
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, headers, body: await text(request) }));
  });
  new WebSocketServer({ server }).on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
  await once(server.listen(0, "127.0.0.1"), "listening");
  return server;
}

function startProxy(kind: ProxyKind, places: Partial<Places> = {}) {
  const limiter = new URL(service.url).host;
  return RecipeProxy.start(kind, {
    limiter,
    app: `127.0.0.1:${(app.address() as AddressInfo).port}`,
    token,
    ...places,
  });
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

interface Sent {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** A visitor with an address: of this machine, so that the proxy sees it. */
class Visitor {
  static #count = 1;
  readonly address = `127.0.1.${Visitor.#count++}`;

  async send(port: number, { method = "GET", path = "/", headers = {}, body = "" }: Sent = {}): Promise<Answer> {
    const sent = request({ host: "127.0.0.1", localAddress: this.address, port, method, path, headers });
    const answered = once(sent, "response");
    sent.end(body);
    const [response] = (await answered) as [IncomingMessage];
    return { status: response.statusCode, headers: response.headers, body: await text(response) };
  }

  /** The status of the handshake. */
  async openWebSocket(port: number): Promise<number | undefined> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`, { localAddress: this.address });
    return new Promise((resolve, reject) => {
      socket.once("open", () => socket.send("hello"));
      socket.once("message", () => {
        socket.terminate();
        resolve(101);
      });
      socket.once("unexpected-response", (request, response) => {
        request.destroy();
        resolve(response.statusCode);
      });
      socket.once("error", reject);
    });
  }
}

async function used(key: string): Promise<number[]> {
  const response = await service.fetch(`/v1/keys/${encodeURIComponent(key)}`, { headers: ADMIN });
  const { counters } = (await response.json()) as { counters: { layer: string; events_total: number }[] };
  return counters.map(({ events_total }) => events_total);
}

test.each(["caddyfile", "nginx", "yaml"])("a recipe (%s) has at most 20 lines", (language) => {
  const lines = recipeIn(language).trimEnd().split("\n");
  expect(lines.length).toBeGreaterThan(8);
  expect(lines.length).toBeLessThanOrEqual(20);
});

describe.each(KINDS)("%s, by the recipe of the documentation,", (kind) => {
  const portOf = () => proxies.get(kind)?.port ?? 0;

  test("passes five requests of a visitor and refuses the sixth, which the application never sees", async () => {
    const visitor = new Visitor();
    for (const remaining of [4, 3, 2, 1, 0]) {
      const { status, headers, body } = await visitor.send(portOf(), { method: "POST", path: "/a?b=c", body: "text" });
      expect([status, JSON.parse(body)]).toMatchObject([200, { method: "POST", url: "/a?b=c", body: "text" }]);
      expect(headers.ratelimit).toContain(`"caller/60s";r=${remaining};t=`);
      expect(headers["ratelimit-policy"]).toContain('"caller/60s";q=5;w=60');
      expect(headers["retry-after"]).toBeUndefined();
    }
    const { status, headers, body } = await visitor.send(portOf());
    expect(status).toBe(429);
    expect(Number(headers["retry-after"])).toBeGreaterThan(50);
    expect(headers.ratelimit).toContain('"caller/60s";r=0;t=');
    expect(headers["ratelimit-policy"]).toContain('"caller/60s";q=5;w=60');
    expect(body).not.toMatch(/127\.0\.1|"url"/);
    expect(await used(`ip:${visitor.address}`)).toEqual([5, 5]);
    expect((await new Visitor().send(portOf())).status).toBe(200);
  });

  test("takes no address, user, token, policy or status from the visitor", async () => {
    const visitor = new Visitor();
    const statuses: (number | undefined)[] = [];
    const forged = (i: number): Sent => ({
      path: `/a/../upload/%2e%2e/healthz?hops=2&denied=403&policy=p${i}`,
      headers: {
        "X-Forwarded-For": `198.51.100.${i}`,
        "X-Real-IP": `198.51.100.${i}`,
        Forwarded: `for=198.51.100.${i}`,
        "CF-Connecting-IP": `198.51.100.${i}`,
        "X-User-Id": `evil-${i}`,
        "X-Limiter-Token": "admin-token",
        Authorization: "Bearer admin-token",
        "Idempotency-Key": "same",
        RateLimit: "forged",
        // What is named here is removed on its way.
        Connection: "X-Limiter-Token, X-Forwarded-For",
      },
    });
    for (let i = 1; i <= 6; i++) statuses.push((await visitor.send(portOf(), forged(i))).status);
    expect(statuses.slice(-1)).toEqual([429]);
    expect(statuses.filter((status) => status === 429)).toHaveLength(1);
    expect(await used(`ip:${visitor.address}`)).toEqual([5, 5]);
    expect(await used("user:evil-1")).toEqual([]);
    expect(await used("ip:198.51.100.1")).toEqual([]);
  });

  test("leaves the visitor's Authorization and body to the application, and the token out of it", async () => {
    const headers = { Authorization: "Bearer of-the-visitor", Cookie: "a=b" };
    const { body } = await new Visitor().send(portOf(), { method: "PUT", headers, body: "x".repeat(100_000) });
    const seen = JSON.parse(body) as { headers: Record<string, string>; body: string };
    expect([seen.headers.authorization, seen.headers.cookie, seen.body.length]).toEqual([
      "Bearer of-the-visitor",
      "a=b",
      100_000,
    ]);
    expect(JSON.stringify(seen)).not.toContain(token);
  });

  test("lets no path lead past the gate", async () => {
    const visitor = new Visitor();
    const statuses: (number | undefined)[] = [];
    for (let i = 0; i < 7; i++) {
      const path = i % 2 === 0 ? "/../../../healthz" : "/%2e%2e/%2e%2e/%2e%2e/healthz";
      statuses.push((await visitor.send(portOf(), { path })).status);
    }
    // nginx refuses such a path itself, and Caddy counts it.
    expect(statuses).toEqual(kind === "nginx" ? Array(7).fill(400) : [200, 200, 200, 200, 200, 429, 429]);
  });

  test.each(["HEAD", "OPTIONS", "DELETE", "PATCH"])("counts %s requests too", async (method) => {
    const visitor = new Visitor();
    for (let i = 0; i < 5; i++) expect((await visitor.send(portOf(), { method })).status).toBe(200);
    expect((await visitor.send(portOf(), { method })).status).toBe(429);
  });

  test("counts by a user that it has verified, from any address, and by no other", async () => {
    const proxy = await startProxy(kind, { hasUsers: true });
    onTestFinished(() => proxy.stop());
    const name = `Basic ${Buffer.from(`${USER.name}:${USER.password}`).toString("base64")}`;
    const send = (Authorization: string) =>
      new Visitor().send(proxy.port, { headers: { Authorization, "X-User-Id": crypto.randomUUID() } });
    const forged = `Basic ${Buffer.from(`${USER.name}:wrong`).toString("base64")}`;
    expect((await send(forged)).status).toBe(401);
    const statuses: (number | undefined)[] = [];
    for (let i = 0; i < 6; i++) statuses.push((await send(name)).status);
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);
    expect(await used(`user:${USER.name}`)).toEqual([5]);
    await service.fetch(`/v1/keys/user:${USER.name}`, { method: "DELETE", headers: ADMIN });
  });

  test("passes nothing while its token is wrong, and tells no visitor to wait", async () => {
    const proxy = await startProxy(kind, { token: "wrong" });
    onTestFinished(() => proxy.stop());
    const { status, headers, body } = await new Visitor().send(proxy.port);
    expect([401, 500]).toContain(status);
    expect(headers["retry-after"]).toBeUndefined();
    expect(body).not.toContain('"url"');
  });

  test("passes nothing while the limiter does not answer", async () => {
    const proxy = await startProxy(kind, { limiter: `127.0.0.1:${await freePort()}` });
    onTestFinished(() => proxy.stop());
    const { status, body } = await new Visitor().send(proxy.port);
    expect(status).toBeGreaterThanOrEqual(500);
    expect(body).not.toContain('"url"');
  });
});

test("Caddy passes five WebSockets of a visitor and refuses the sixth", async () => {
  const visitor = new Visitor();
  const port = proxies.get("caddy")?.port ?? 0;
  const statuses: (number | undefined)[] = [];
  for (let i = 0; i < 6; i++) statuses.push(await visitor.openWebSocket(port));
  expect(statuses).toEqual([101, 101, 101, 101, 101, 429]);
});
