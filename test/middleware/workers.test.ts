import { resolve } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { describe, expect, onTestFinished } from "vitest";
import type { TestLimiter } from "../../src/testing/index.js";
import { test } from "./limiter.js";

const APPLICATION = `
  import { env } from "cloudflare:workers";
  import { Hono } from "hono";
  import { upgradeWebSocket } from "hono/cloudflare-workers";
  import { Limiter } from "./src/client/index.js";
  import { rateLimit } from "./src/middleware/hono.js";

  // Changes are slow: the runtime has long ended the request by then, unless it is told to wait.
  const send = async (url, init) => {
    if (/(settle|release)$/.test(url)) await scheduler.wait(300);
    return fetch(url, init);
  };
  const limiter = new Limiter({ url: env.LIMITER_URL, token: env.LIMITER_TOKEN, fetch: send });
  const limit = rateLimit(limiter, { trustedProxies: 0 });
  const llm = limit("llm", { releaseAfterResponse: true, refund: (status) => status >= 500 });

  export default new Hono()
    .post("/message", limit("chat"), (c) => c.text("ok"))
    .post("/stream", llm, () => new Response("chunk ".repeat(1_000)))
    .post("/broken", llm, () => { throw new Error("broken"); })
    .get("/socket", llm, upgradeWebSocket((c) => ({
      onMessage: (event, socket) => socket.send(event.data),
      onClose: () => c.executionCtx.waitUntil(c.get("rateLimit").release()),
    })));
`;

/** A Worker with the application. */
async function startWorker({ url, token }: TestLimiter): Promise<Miniflare> {
  const { outputFiles } = await build({
    stdin: { contents: APPLICATION, resolveDir: resolve(import.meta.dirname, "../.."), loader: "ts" },
    bundle: true,
    write: false,
    format: "esm",
    external: ["cloudflare:workers", "ws"],
    logLevel: "silent",
  });
  const worker = new Miniflare({
    modules: [{ type: "ESModule", path: "application.js", contents: outputFiles[0]?.text ?? "" }],
    compatibilityDate: "2026-04-21",
    bindings: { LIMITER_URL: url, LIMITER_TOKEN: token },
    cf: false,
  });
  onTestFinished(() => worker.dispose());
  return worker;
}

const ADDRESS = "203.0.113.7";
const visitor = { method: "POST", headers: { "CF-Connecting-IP": ADDRESS } };

const usedBy = async ({ client }: TestLimiter) =>
  (await client.check({ policy: "llm", subject: { ip: ADDRESS } })).limits.map(({ used }) => used);

describe("a limit of Hono on Workers", () => {
  test("admits five messages of the address that Cloudflare saw, and denies the sixth", async ({ limiter }) => {
    const worker = await startWorker(limiter);
    for (let i = 0; i < 5; i++) expect((await worker.dispatchFetch("http://x/message", visitor)).status).toBe(200);
    const denied = await worker.dispatchFetch("http://x/message", visitor);
    expect([denied.status, denied.headers.get("Retry-After")]).toEqual([429, "60"]);
    const other = { method: "POST", headers: { "CF-Connecting-IP": "203.0.113.8", "X-Forwarded-For": ADDRESS } };
    expect((await worker.dispatchFetch("http://x/message", other)).status).toBe(200);
  });

  test("releases and gives back after the response", async ({ limiter }) => {
    const worker = await startWorker(limiter);
    const response = await worker.dispatchFetch("http://x/stream", visitor);
    expect((await response.text()).length).toBe(6_000);
    await expect.poll(() => usedBy(limiter)).toEqual([1, 0]);
    const broken = await worker.dispatchFetch("http://x/broken", visitor);
    expect([broken.status, await broken.text()]).toEqual([500, "Internal Server Error"]);
    await expect.poll(() => usedBy(limiter)).toEqual([1, 0]);
  });

  test("denies a WebSocket before the upgrade, and lets its handler release it", async ({ limiter }) => {
    const worker = await startWorker(limiter);
    const connect = () =>
      worker.dispatchFetch("http://x/socket", { headers: { Upgrade: "websocket", "CF-Connecting-IP": ADDRESS } });
    const sockets = [(await connect()).webSocket, (await connect()).webSocket];
    expect((await connect()).status).toBe(429);
    for (const socket of sockets) {
      socket?.accept();
      socket?.close();
    }
    await expect.poll(() => usedBy(limiter)).toEqual([2, 0]);
  });
});
