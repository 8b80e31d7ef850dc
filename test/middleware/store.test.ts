import { type Store as ExpressStore, rateLimit } from "express-rate-limit";
import type { Store as HonoStore } from "hono-rate-limiter";
import { describe, expect, expectTypeOf, onTestFinished, vi } from "vitest";
import { LimiterError } from "../../src/client/index.js";
import { LARGEST_MAX } from "../../src/core/limit.js";
import { ExactStore, type ExactStoreOptions, type Hits, type StoreSettings } from "../../src/middleware/store.js";
import { type TestLimiter, test } from "../../src/testing/index.js";

const MINUTE_MS = 60_000;

/** A store as the libraries make it ready. It gives back hits. */
function storeOf(
  { url, token }: Pick<TestLimiter, "url" | "token">,
  settings: Partial<StoreSettings> = {},
  options: Partial<ExactStoreOptions> = {},
): ExactStore {
  const store = new ExactStore({ url, token, ...options });
  store.init({ windowMs: MINUTE_MS, limit: 5, skipFailedRequests: true, ...settings });
  return store;
}

const totalOf = async (hits: Hits | undefined | Promise<Hits | undefined>) => (await hits)?.totalHits;

/** How far away the reset is, in whole seconds. */
const secondsUntil = ({ resetTime }: Hits) => Math.ceil((resetTime.getTime() - Date.now()) / 1_000);

const NOBODY = { url: "http://127.0.0.1:1", token: "token" };

test("the store is one for both libraries", () => {
  expectTypeOf<ExactStore>().toExtend<ExpressStore>();
  expectTypeOf<ExactStore>().toExtend<HonoStore>();
});

describe("a hit", () => {
  test("is counted from 1 up, with the time at which all are gone", async ({ limiter }) => {
    const store = storeOf(limiter);
    const first = await store.increment("203.0.113.7");
    expect([first.totalHits, secondsUntil(first)]).toEqual([1, 60]);
    await limiter.advance({ seconds: 20 });
    const second = await store.increment("203.0.113.7");
    expect([second.totalHits, secondsUntil(second)]).toEqual([2, 60]);
    expect(await totalOf(store.increment("203.0.113.8"))).toBe(1);
  });

  test("leaves the window by itself, to the millisecond", async ({ limiter }) => {
    const store = storeOf(limiter);
    await store.increment("a");
    await limiter.advance({ seconds: 30 });
    await store.increment("a");
    await limiter.advance({ seconds: 29, ms: 999 });
    expect(await totalOf(store.get("a"))).toBe(2);
    await limiter.advance({ ms: 1 });
    expect(await totalOf(store.get("a"))).toBe(1);
    await limiter.advance({ seconds: 30 });
    expect(await store.get("a")).toBeUndefined();
  });

  test("above the limit is denied and not counted, and fits at the reset time", async ({ limiter }) => {
    const store = storeOf(limiter);
    for (let i = 1; i <= 5; i++) expect(await totalOf(store.increment("a"))).toBe(i);
    await limiter.advance({ seconds: 20 });
    for (let i = 0; i < 3; i++) {
      const denied = await store.increment("a");
      expect([denied.totalHits, secondsUntil(denied)]).toEqual([6, 40]);
    }
    expect(await totalOf(store.get("a"))).toBe(5);
    await limiter.advance({ seconds: 40 });
    expect(await totalOf(store.increment("a"))).toBe(1);
  });

  test("counts in all processes", async ({ limiter }) => {
    const stores = [storeOf(limiter), storeOf(limiter), storeOf(limiter)];
    for (let i = 0; i < 5; i++) await stores[i % 3]?.increment("a");
    for (const store of stores) expect(await totalOf(store.increment("a"))).toBe(6);
  });

  test("of many at once is admitted up to the limit", async ({ limiter }) => {
    const store = storeOf(limiter);
    const hits = await Promise.all(Array.from({ length: 20 }, () => store.increment("a")));
    expect(hits.map(({ totalHits }) => totalHits).sort()).toEqual([1, 2, 3, 4, 5, ...Array(15).fill(6)]);
  });

  test("may have any key", async ({ limiter }) => {
    const store = storeOf(limiter);
    const keys = [
      "",
      " ",
      ".",
      "a/b?c#d%",
      " a",
      "a",
      "é",
      "e\u0301",
      "\ud800",
      "\u0000",
      "x".repeat(400),
      "x".repeat(401),
    ];
    for (const key of keys) expect([key, await totalOf(store.increment(key))]).toEqual([key, 1]);
    for (const key of keys) {
      await store.resetKey(key);
      expect([key, await store.get(key)]).toEqual([key, undefined]);
    }
  });

  test("is one call", async ({ limiter }) => {
    const send = vi.fn((url: string, init: RequestInit) => fetch(url, init));
    const store = storeOf(limiter, {}, { fetch: send });
    await store.increment("a");
    expect(send.mock.calls.map(([url]) => url)).toEqual([`${limiter.url}/v1/inline/consume`]);
  });
});

describe("a limit", () => {
  test("has a prefix of its own by its number and window, so that two limits count apart", async ({ limiter }) => {
    const minute = storeOf(limiter);
    const hour = storeOf(limiter, { windowMs: 60 * MINUTE_MS, limit: 60 });
    expect([minute.prefix, hour.prefix]).toEqual(["5/60:", "60/3600:"]);
    await minute.increment("a");
    expect(await hour.get("a")).toBeUndefined();
  });

  test("counts with all that have its prefix", async ({ limiter }) => {
    const login = storeOf(limiter, {}, { prefix: "login:" });
    const api = storeOf(limiter, {}, { prefix: "api:" });
    await login.increment("a");
    expect(await totalOf(storeOf(limiter, { limit: 9 }, { prefix: "login:" }).increment("a"))).toBe(2);
    expect(await api.get("a")).toBeUndefined();
  });

  test("of 0 admits nothing", async ({ limiter }) => {
    const log = vi.fn();
    const store = storeOf(limiter, { limit: 0 }, { log });
    expect(await totalOf(store.increment("a"))).toBe(1);
    expect(log).not.toHaveBeenCalled();
  });

  test("has a window of whole seconds, rounded up", async ({ limiter }) => {
    const store = storeOf(limiter, { windowMs: 1_500 });
    expect(secondsUntil(await store.increment("a"))).toBe(2);
    expect(secondsUntil(await storeOf(limiter, { windowMs: 10 }).increment("a"))).toBe(1);
  });

  test("that is a function or infinite counts all hits, for the library to judge", async ({ limiter }) => {
    for (const limit of [() => 2, Number.POSITIVE_INFINITY]) {
      const store = storeOf(limiter, { limit }, { prefix: `${limit}:` });
      for (let i = 1; i <= 7; i++) expect(await totalOf(store.increment("a"))).toBe(i);
    }
  });

  test("that is a function counts under the largest limit of the service", async ({ limiter }) => {
    const send = vi.fn((url: string, init: RequestInit) => fetch(url, init));
    await storeOf(limiter, { limit: () => 2 }, { fetch: send }).increment("a");
    expect(send.mock.calls[0]?.[1].body).toContain(`"${LARGEST_MAX} per 60 seconds"`);
  });

  test("that the service refuses denies everything, and says so in the log", async ({ limiter }) => {
    for (const onError of ["throw", "deny", "allow"] as const) {
      const log = vi.fn();
      const store = storeOf(limiter, { windowMs: 32 * 24 * 60 * MINUTE_MS }, { onError, log });
      expect(await totalOf(store.increment("a"))).toBe(6);
      expect(log).toHaveBeenCalledExactlyOnceWith(
        "The limiter refuses this limit: it denies.",
        expect.any(LimiterError),
      );
    }
  });
});

describe("a hit that is given back", () => {
  /** Hits in a context of its own, like the middleware of a library. `end` gives the hit back. */
  async function request(store: ExactStore, key: string): Promise<{ hits: Hits; end: () => Promise<void> }> {
    await Promise.resolve();
    const hits = await store.increment(key);
    let start = () => {};
    const ended = new Promise<void>((resolve) => {
      start = resolve;
    }).then(() => store.decrement(key));
    return {
      hits,
      end: () => {
        start();
        return ended;
      },
    };
  }

  test("no longer counts", async ({ limiter }) => {
    const store = storeOf(limiter);
    await request(store, "a");
    const { end } = await request(store, "a");
    await end();
    expect(await totalOf(store.increment("a"))).toBe(2);
  });

  test("is given back once", async ({ limiter }) => {
    const store = storeOf(limiter);
    await request(store, "a");
    const { end } = await request(store, "a");
    await end();
    await end();
    expect(await totalOf(store.get("a"))).toBe(1);
  });

  test("is that of its own request, not of another", async ({ limiter }) => {
    const store = storeOf(limiter);
    const slow = await request(store, "a");
    await limiter.advance({ seconds: 30 });
    await request(store, "a");
    await slow.end();
    // The hit that is left is the later one.
    await limiter.advance({ seconds: 30 });
    expect(await totalOf(store.get("a"))).toBe(1);
    await limiter.advance({ seconds: 30 });
    expect(await store.get("a")).toBeUndefined();
  });

  test("was counted: a denied one gives nothing back", async ({ limiter }) => {
    const store = storeOf(limiter, { limit: 1 });
    await request(store, "a");
    const denied = await request(store, "a");
    expect(denied.hits.totalHits).toBe(2);
    await denied.end();
    expect(await totalOf(store.get("a"))).toBe(1);
  });

  test("may have left the window", async ({ limiter }) => {
    const log = vi.fn();
    const store = storeOf(limiter, {}, { log });
    const { end } = await request(store, "a");
    await limiter.advance({ seconds: 61 });
    await end();
    expect(await store.get("a")).toBeUndefined();
    expect(log).not.toHaveBeenCalled();
  });

  test("throws nothing if the service does not answer, and logs it", async ({ limiter }) => {
    const log = vi.fn();
    let isDown = false;
    const send = (url: string, init: RequestInit) => (isDown ? Promise.reject(new Error("down")) : fetch(url, init));
    const store = storeOf(limiter, {}, { log, fetch: send, deadlineMs: 1_000 });
    const { end } = await request(store, "a");
    isDown = true;
    await end();
    expect(log).toHaveBeenCalledExactlyOnceWith("A hit could not be given back.", expect.any(LimiterError));
  });

  test("of an unknown request is told on the console, and nothing else", async () => {
    const print = vi.spyOn(console, "error").mockReturnValue();
    onTestFinished(() => print.mockRestore());
    await storeOf(NOBODY).decrement("a");
    expect(print.mock.calls).toEqual([["A hit was not given back: there is no way to tell which one is meant."]]);
  });

  test("must be that of a request", async ({ limiter }) => {
    const log = vi.fn();
    const store = storeOf(limiter, {}, { log });
    await store.decrement("a");
    expect(log).toHaveBeenCalledOnce();
  });
});

test("a key that is reset has no hits", async ({ limiter }) => {
  const store = storeOf(limiter);
  await store.increment("a");
  await store.increment("b");
  await store.resetKey("a");
  expect([await store.get("a"), await totalOf(store.get("b"))]).toEqual([undefined, 1]);
  expect(await totalOf(store.increment("a"))).toBe(1);
});

describe("in an outage", () => {
  const quiet = { deadlineMs: 200, log: () => {} };

  test("the store throws unless told otherwise: the library decides", async () => {
    await expect(storeOf(NOBODY, {}, quiet).increment("a")).rejects.toThrow(LimiterError);
    await expect(storeOf(NOBODY, {}, quiet).get("a")).rejects.toThrow(LimiterError);
    await expect(storeOf(NOBODY, {}, quiet).resetKey("a")).rejects.toThrow(LimiterError);
  });

  test("the limit is used up for a second, or the hit passes", async () => {
    const deny = storeOf(NOBODY, {}, { ...quiet, onError: "deny" });
    const denied = await deny.increment("a");
    expect([denied.totalHits, secondsUntil(denied)]).toEqual([6, 1]);
    expect(await totalOf(deny.get("a"))).toBe(6);
    const allow = storeOf(NOBODY, {}, { ...quiet, onError: "allow" });
    expect(await totalOf(allow.increment("a"))).toBe(1);
    expect(await allow.get("a")).toBeUndefined();
  });

  test("an answer about another key counts as one", async ({ limiter }) => {
    const mixUp = async (url: string, init: RequestInit) =>
      new Response((await (await fetch(url, init)).text()).replaceAll("key:5/60:a", "key:5/60:b"));
    const store = storeOf(limiter, {}, { ...quiet, fetch: mixUp });
    await expect(store.increment("a")).rejects.toThrow(LimiterError);
  });

  test("the fourth hit does not wait", async () => {
    const store = storeOf(NOBODY, {}, { ...quiet, onError: "allow" });
    for (let i = 0; i < 3; i++) await store.increment(String(i));
    const startedMs = performance.now();
    for (let i = 0; i < 100; i++) await store.increment(String(i));
    expect(performance.now() - startedMs).toBeLessThan(150);
  });

  test("a refused token counts as one, and so do inline limits that are off", async ({ limiter }) => {
    const log = vi.fn();
    const store = storeOf({ url: limiter.url, token: "wrong" }, {}, { onError: "allow", log });
    expect(await totalOf(store.increment("a"))).toBe(1);
    expect(log).toHaveBeenCalledExactlyOnceWith("The limiter did not answer.", expect.any(LimiterError));
  });
});

test("options that can't work are refused at once", () => {
  expect(() => new ExactStore({ url: "limiter.example", token: "t" })).toThrow("url is not a URL");
  expect(() => new ExactStore({ ...NOBODY, token: "" })).toThrow("token is missing");
  expect(() => new ExactStore({ ...NOBODY, onError: "pass" as "allow" })).toThrow('onError must be "throw"');
  expect(() => rateLimit({ store: new ExactStore(NOBODY) })).not.toThrow();
});
