import { Hono } from "hono";
import { type HonoConfigProps, rateLimiter, webSocketLimiter } from "hono-rate-limiter";
import { describe, expect } from "vitest";
import { ExactStore, type ExactStoreOptions } from "../../src/middleware/store.js";
import { type TestLimiter, test } from "../../src/testing/index.js";

/** The application of one process. */
function applicationOf(
  { url, token }: Pick<TestLimiter, "url" | "token">,
  options: Partial<HonoConfigProps> = {},
  storeOptions: Partial<ExactStoreOptions> = {},
): Hono {
  const limit = rateLimiter({
    windowMs: 60_000,
    limit: 5,
    keyGenerator: (c) => c.req.header("X-User") ?? "anyone",
    store: new ExactStore({ url, token, ...storeOptions }),
    ...options,
  });
  return new Hono()
    .use(limit)
    .onError((_, c) => c.text("failed", 500))
    .get("/", (c) => c.text("ok"))
    .get("/broken", () => {
      throw new Error("broken");
    });
}

const statuses = async (count: number, app: Hono, path = "/") => {
  const seen: number[] = [];
  for (let i = 0; i < count; i++) seen.push((await app.request(path)).status);
  return seen;
};

describe("hono-rate-limiter with the store", () => {
  test("denies the sixth request in any of three processes", async ({ limiter }) => {
    const processes = [applicationOf(limiter), applicationOf(limiter), applicationOf(limiter)] as const;
    for (const i of [0, 1, 2, 0, 1] as const) expect((await processes[i].request("/")).status).toBe(200);
    for (const app of processes) expect((await app.request("/")).status).toBe(429);
    expect((await processes[0].request("/", { headers: { "X-User": "other" } })).status).toBe(200);
    await limiter.advance({ seconds: 60 });
    expect((await processes[2].request("/")).status).toBe(200);
  });

  test("says in the headers what is left, and when a denied request fits", async ({ limiter }) => {
    const app = applicationOf(limiter, { standardHeaders: "draft-7" });
    expect((await app.request("/")).headers.get("RateLimit")).toBe("limit=5, remaining=4, reset=60");
    await statuses(4, app);
    await limiter.advance({ seconds: 25 });
    const denied = await app.request("/");
    expect([denied.status, denied.headers.get("Retry-After")]).toEqual([429, "35"]);
  });

  test("gives failed requests back, and nothing for denied ones", async ({ limiter }) => {
    const app = applicationOf(limiter, { skipFailedRequests: true, requestWasSuccessful: (c) => c.res.status < 400 });
    expect(await statuses(7, app, "/broken")).toEqual(Array(7).fill(500));
    expect(await statuses(7, app)).toEqual([200, 200, 200, 200, 200, 429, 429]);
    expect((await app.request("/broken")).status).toBe(429);
  });

  test("gives successful requests back", async ({ limiter }) => {
    const app = applicationOf(limiter, { skipSuccessfulRequests: true });
    expect(await statuses(7, app)).toEqual(Array(7).fill(200));
    expect(await statuses(6, app, "/broken")).toEqual([500, 500, 500, 500, 500, 429]);
  });

  test("answers in an outage by the store's onError", async () => {
    const nobody = { url: "http://127.0.0.1:1", token: "token" };
    const statusWith = (onError: "throw" | "deny" | "allow") =>
      statuses(1, applicationOf(nobody, {}, { onError, deadlineMs: 150, log: () => {} }));
    expect([await statusWith("throw"), await statusWith("deny"), await statusWith("allow")]).toEqual([
      [500],
      [429],
      [200],
    ]);
  });

  test("limits the messages of a WebSocket", async ({ limiter }) => {
    const { url, token } = limiter;
    const limit = webSocketLimiter({
      windowMs: 60_000,
      limit: 2,
      keyGenerator: () => "anyone",
      store: new ExactStore({ url, token }),
    });
    const seen: string[] = [];
    const app = new Hono().get("/", async (c) => {
      const events = await limit(() => ({ onMessage: () => void seen.push("message") }))(c);
      const socket = { close: (code: number) => void seen.push(`closed ${code}`) };
      for (let i = 0; i < 3; i++)
        await events.onMessage?.(new MessageEvent("message"), socket as Parameters<typeof events.onMessage>[1]);
      return c.text("ok");
    });
    await app.request("/");
    expect(seen).toEqual(["message", "message", "closed 1008"]);
  });
});
