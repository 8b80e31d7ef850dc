import { createServer } from "node:http";
import express, { type Express, type Request } from "express";
import { type Options, rateLimit } from "express-rate-limit";
import { describe, expect, vi } from "vitest";
import { ExactStore, type ExactStoreOptions } from "../../src/middleware/store.js";
import { type TestLimiter, test } from "../../src/testing/index.js";
import { listen } from "./frameworks.js";

/** The limits of one process: an application and what it prints. */
async function serve(
  { url, token }: Pick<TestLimiter, "url" | "token">,
  options: Partial<Options> = {},
  storeOptions: Partial<ExactStoreOptions> = {},
): Promise<{
  get: (path?: string, init?: RequestInit) => Promise<Response>;
  app: Express;
  limit: ReturnType<typeof rateLimit>;
  store: ExactStore;
}> {
  const app = express();
  app.set("env", "test");
  const store = new ExactStore({ url, token, ...storeOptions });
  const limit = rateLimit({
    windowMs: 60_000,
    limit: 5,
    store,
    // A problem that the library sees in the store fails the test.
    logger: { warn: (error) => expect.unreachable(String(error)), error: (error) => expect.unreachable(String(error)) },
    ...options,
  });
  app.use(limit);
  app.get("/", (_, response) => void response.send("ok"));
  app.get("/broken", () => {
    throw new Error("broken");
  });
  const base = await listen(createServer(app));
  return { app, limit, store, get: (path = "/", init) => fetch(base + path, init) };
}

type Process = Awaited<ReturnType<typeof serve>>;

const statuses = async (count: number, { get }: Process, path?: string) => {
  const seen: number[] = [];
  for (let i = 0; i < count; i++) seen.push((await get(path)).status);
  return seen;
};

const hitsOf = async ({ limit }: Process) => (await limit.getKey("127.0.0.1"))?.totalHits;

describe("express-rate-limit with the store", () => {
  test("denies the sixth request in any of three processes", async ({ limiter }) => {
    const processes = [await serve(limiter), await serve(limiter), await serve(limiter)] as const;
    for (const i of [0, 1, 2, 0, 1] as const) expect((await processes[i].get()).status).toBe(200);
    for (const process of processes) expect((await process.get()).status).toBe(429);
    await limiter.advance({ seconds: 60 });
    expect((await processes[2].get()).status).toBe(200);
  });

  test("says in the headers of each draft what is left, and when a denied request fits", async ({ limiter }) => {
    const old = await serve(limiter);
    const first = await old.get();
    expect([first.headers.get("X-RateLimit-Limit"), first.headers.get("X-RateLimit-Remaining")]).toEqual(["5", "4"]);
    const draft7 = await serve(limiter, { standardHeaders: "draft-7", legacyHeaders: false });
    expect((await draft7.get()).headers.get("RateLimit")).toBe("limit=5, remaining=3, reset=60");
    const draft8 = await serve(limiter, { standardHeaders: "draft-8", legacyHeaders: false });
    expect((await draft8.get()).headers.get("RateLimit")).toBe('"5-in-1min"; r=2; t=60');
    await statuses(2, draft8);
    await limiter.advance({ seconds: 25 });
    const denied = await draft7.get();
    expect([denied.status, denied.headers.get("Retry-After")]).toEqual([429, "35"]);
    expect(denied.headers.get("RateLimit")).toBe("limit=5, remaining=0, reset=35");
  });

  test("admits no twice the limit around the end of a window", async ({ limiter }) => {
    const process = await serve(limiter);
    await process.get();
    await limiter.advance({ seconds: 59 });
    expect(await statuses(4, process)).toEqual([200, 200, 200, 200]);
    await limiter.advance({ seconds: 1 });
    expect(await statuses(2, process)).toEqual([200, 429]);
  });

  test("does not count denied requests: one that keeps trying passes when it may", async ({ limiter }) => {
    const process = await serve(limiter);
    await statuses(5, process);
    for (let i = 0; i < 12; i++) {
      await limiter.advance({ seconds: 4, ms: 999 });
      expect((await process.get()).status).toBe(429);
    }
    await limiter.advance({ seconds: 1 });
    expect((await process.get()).status).toBe(200);
  });

  test("gives failed requests back, and nothing for denied ones", async ({ limiter }) => {
    const process = await serve(limiter, { skipFailedRequests: true });
    const decrement = vi.spyOn(process.store, "decrement");
    expect(await statuses(7, process, "/broken")).toEqual(Array(7).fill(500));
    await expect.poll(() => hitsOf(process)).toBeUndefined();
    expect(await statuses(7, process)).toEqual([200, 200, 200, 200, 200, 429, 429]);
    await expect.poll(() => decrement.mock.settledResults.length).toBe(7 + 2);
    expect(await hitsOf(process)).toBe(5);
  });

  test("gives successful requests back", async ({ limiter }) => {
    const process = await serve(limiter, { skipSuccessfulRequests: true });
    await statuses(7, process);
    await process.get("/broken");
    await expect.poll(() => hitsOf(process)).toBe(1);
    expect(await statuses(5, process, "/broken")).toEqual([500, 500, 500, 500, 429]);
  });

  test("gives back the hit of the request that failed, though others came later", async ({ limiter }) => {
    const process = await serve(limiter, { skipFailedRequests: true });
    let fail = () => {};
    let begin = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    process.app.get("/slow", (_, response) => {
      fail = () => void response.status(500).end();
      begin();
    });
    const slow = process.get("/slow");
    await begun;
    await limiter.advance({ seconds: 30 });
    await process.get();
    fail();
    expect((await slow).status).toBe(500);
    await expect.poll(() => hitsOf(process)).toBe(1);
    // The hit that is left is the later one.
    await limiter.advance({ seconds: 30 });
    expect(await hitsOf(process)).toBe(1);
  });

  test("gives back the hit of a visitor who leaves before the response", async ({ limiter }) => {
    const process = await serve(limiter, { skipFailedRequests: true });
    let begin = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    process.app.get("/slow", () => begin());
    const visitor = new AbortController();
    const response = process.get("/slow", { signal: visitor.signal });
    await begun;
    expect(await hitsOf(process)).toBe(1);
    visitor.abort();
    await expect(response).rejects.toThrow("aborted");
    await expect.poll(() => hitsOf(process)).toBeUndefined();
  });

  test("resets a key", async ({ limiter }) => {
    const process = await serve(limiter);
    await statuses(5, process);
    await process.limit.resetKey("127.0.0.1");
    await expect.poll(() => hitsOf(process)).toBeUndefined();
    expect((await process.get()).status).toBe(200);
  });

  test("takes a limit that depends on the request, and then counts denied ones too", async ({ limiter }) => {
    const process = await serve(limiter, { limit: (request: Request) => (request.path === "/" ? 2 : 4) });
    expect(await statuses(3, process)).toEqual([200, 200, 429]);
    expect(await statuses(2, process, "/broken")).toEqual([500, 429]);
  });

  test("counts two limits of one request apart", async ({ limiter }) => {
    const { url, token } = limiter;
    const process = await serve(limiter, { limit: 3 });
    process.app.get(
      "/hourly",
      rateLimit({ windowMs: 3_600_000, limit: 1, store: new ExactStore({ url, token }) }),
      (_, response) => void response.send("ok"),
    );
    expect(await statuses(4, process, "/hourly")).toEqual([200, 429, 429, 429]);
  });

  test("decides in an outage by passOnStoreError, or by the store's onError", async () => {
    const nobody = { url: "http://127.0.0.1:1", token: "token" };
    const quiet = { deadlineMs: 150, log: () => {} };
    const logger = { warn: () => {}, error: () => {} };
    const statusWith = async (options: Partial<Options>, store: Partial<ExactStoreOptions>) =>
      (await (await serve(nobody, { logger, ...options }, { ...quiet, ...store })).get()).status;
    expect(await statusWith({}, {})).toBe(500);
    expect(await statusWith({ passOnStoreError: true }, {})).toBe(200);
    expect(await statusWith({}, { onError: "deny" })).toBe(429);
    expect(await statusWith({}, { onError: "allow" })).toBe(200);
  });
});
