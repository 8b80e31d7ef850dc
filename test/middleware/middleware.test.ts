import { describe, expect, onTestFinished, vi } from "vitest";
import { Limiter } from "../../src/client/index.js";
import { type Application, FRAMEWORKS } from "./frameworks.js";
import { test } from "./limiter.js";

const ADDRESS = "127.0.0.1";

const post = (url: string, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  fetch(url, { method: "POST", headers, ...(signal && { signal }) });

const statuses = async (count: number, url: string, headers?: Record<string, string>) => {
  const seen: number[] = [];
  for (let i = 0; i < count; i++) seen.push((await post(url, headers)).status);
  return seen;
};

const RELEASES = { releaseAfterResponse: true };

const FIVE = [200, 200, 200, 200, 200];

describe.each(FRAMEWORKS)("a limit of $name", ({ serve }) => {
  /** Serves one route. */
  const serveRoute = async (limiter: Limiter, route: Application["routes"][string], trustedProxies = 0) =>
    `${await serve({ limiter, trustedProxies, routes: { "/message": route } })}/message`;

  /** How much of the first limit a user has used. */
  const usedBy = async (limiter: Limiter, policy: string, user: string) =>
    (await limiter.check({ policy, subject: { user, ip: ADDRESS } })).limits.map(({ used }) => used);

  test("admits five messages, and the sixth a minute later", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" });
    expect(await statuses(6, url)).toEqual([...FIVE, 429]);
    const denied = await post(url);
    expect(denied.headers.get("Retry-After")).toBe("60");
    expect(denied.headers.get("Content-Type")).toBe("application/problem+json");
    await limiter.advance({ seconds: 59, ms: 999 });
    expect((await post(url)).headers.get("Retry-After")).toBe("1");
    await limiter.advance({ ms: 1 });
    expect((await post(url)).status).toBe(200);
  });

  test("adds the headers of the decision to responses, also to those of errors", async ({ limiter }) => {
    const handle = () => {
      throw new Error("broken");
    };
    const routes = { "/message": { policy: "chat" }, "/broken": { policy: "chat", handle } };
    const url = await serve({ limiter: limiter.client, routes });
    for (const [path, status, left] of [
      ["/message", 200, 4],
      ["/broken", 500, 3],
    ] as const) {
      const response = await post(`${url}${path}`);
      expect(response.status).toBe(status);
      expect(response.headers.get("RateLimit")).toContain(`"caller/60s";r=${left};t=60`);
      expect(response.headers.get("RateLimit-Policy")).toContain('"caller/60s";q=5;w=60');
      expect(response.headers.get("Retry-After")).toBeNull();
    }
  });

  test("counts each user by the header X-User-Id, in UTF-8", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" });
    const zoe = { "X-User-Id": Buffer.from("Zoë").toString("latin1") };
    expect(await statuses(6, url, zoe)).toEqual([...FIVE, 429]);
    expect((await post(url, { "X-User-Id": "u_2" })).status).toBe(200);
    expect((await usedBy(limiter.client, "chat", "Zoë"))[0]).toBe(5);
  });

  test("shows a denied visitor no keys and no limits", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" });
    await statuses(5, url);
    expect(await (await post(url)).json()).toEqual({
      type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
      title: "Quota Exceeded",
      status: 429,
      detail: "Too many requests: try again in 60 s.",
      "violated-policies": ["caller/60s"],
      retry_after_seconds: 60,
    });
  });

  test("shows a banned visitor that they are banned, and no wait", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" });
    await fetch(`${limiter.url}/v1/keys/user%3Au_1/override`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${limiter.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ kind: "ban", reason: "spam", expires_in_seconds: 3600 }),
    });
    const response = await post(url, { "X-User-Id": "u_1" });
    expect([response.status, response.headers.get("Retry-After")]).toEqual([429, null]);
    expect(await response.json()).toMatchObject({ title: "Banned", retry_after_seconds: null });
  });

  test("shows no ban that denies nothing, since its layer costs 0, and the wait of the limit that denies", async ({
    limiter,
  }) => {
    const url = await serveRoute(limiter.client, { policy: "chat", options: { cost: { caller: 0, ip: 30 } } });
    await fetch(`${limiter.url}/v1/keys/user%3Au_1/override`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${limiter.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ kind: "ban", reason: "spam", expires_in_seconds: 3600 }),
    });
    expect((await post(url, { "X-User-Id": "u_1" })).status).toBe(200);
    const response = await post(url, { "X-User-Id": "u_1" });
    expect([response.status, response.headers.get("Retry-After")]).toEqual([429, "60"]);
    expect(await response.json()).toMatchObject({ title: "Quota Exceeded", retry_after_seconds: 60 });
  });

  test("tells visitors that their address is too long", async ({ limiter }) => {
    const log = vi.fn();
    const address = () => "x".repeat(8_300);
    const url = await serveRoute(limiter.client, { policy: "chat", options: { log, address } });
    const refused = await post(url);
    expect([refused.status, await refused.json()]).toEqual([
      400,
      expect.objectContaining({ detail: "/subject/ip: is too long" }),
    ]);
    expect(log).not.toHaveBeenCalled();
  });

  test("answers with a body of one's own", async ({ limiter }) => {
    const publicBody = ({ limits }: { readonly limits: readonly unknown[] }) => ({ sorry: limits.length });
    const url = await serveRoute(limiter.client, { policy: "chat", options: { publicBody } });
    await statuses(5, url);
    expect(await (await post(url)).json()).toEqual({ sorry: 3 });
  });

  test("shows visitors their own mistakes, and logs those of the application", async ({ limiter }) => {
    const log = vi.fn();
    const routes = {
      "/message": { policy: "chat", options: { log } },
      "/costly": { policy: "chat", options: { log, cost: 100 } },
      "/org": { policy: "org", options: { log } },
      "/member": { policy: "member", options: { log } },
    };
    const url = await serve({ limiter: limiter.client, routes });
    for (const user of ["x".repeat(257), "x".repeat(8_300)]) {
      const invalid = await post(`${url}/message`, { "X-User-Id": user });
      expect(invalid.status).toBe(400);
      expect(await invalid.json()).toMatchObject({ title: "Bad Request", detail: expect.stringContaining("user") });
    }
    expect(log).not.toHaveBeenCalled();
    for (const path of ["/costly", "/org", "/member"]) {
      const refused = await post(`${url}${path}`);
      expect([refused.status, await refused.json()]).toEqual([
        403,
        { type: "about:blank", title: "Forbidden", status: 403, detail: "This request is not accepted." },
      ]);
    }
    expect(log.mock.calls.map(([message]) => message)).toEqual([
      'Requests by policy "chat" are refused.',
      'Requests by policy "org" are refused.',
      'Requests by policy "member" are refused.',
    ]);
  });

  test("tells visitors that their request is larger than any limit", async ({ limiter }) => {
    for (const cost of [100, { caller: 100 }, { caller: 1_000_000_001 }]) {
      const url = await serveRoute(limiter.client, { policy: "chat", options: { cost: () => cost } });
      const refused = await post(url);
      expect([refused.status, await refused.json()]).toEqual([
        413,
        expect.objectContaining({ detail: "This request is larger than its rate limit could ever admit." }),
      ]);
    }
  });

  test("answers 500 for a cost that is none: nothing passes free of charge", async ({ limiter }) => {
    for (const cost of [0, 0.5, -1, Number.NaN]) {
      const url = await serveRoute(limiter.client, { policy: "chat", options: { cost: () => cost } });
      expect([cost, (await post(url)).status]).toEqual([cost, 500]);
    }
  });

  test("takes cost, policy, user and attributes from the request", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, {
      policy: (header) => header("X-Plan") ?? "chat",
      options: {
        cost: async (header) => Number(header("X-Cost")),
        user: () => 17n,
        attributes: (header) => ({ org: header("X-Org") }),
      },
    });
    expect((await post(url, { "X-Cost": "4" })).status).toBe(200);
    expect((await usedBy(limiter.client, "chat", "17"))[0]).toBe(4);
    expect((await post(url, { "X-Plan": "org", "X-Org": "o_1", "X-Cost": "3" })).status).toBe(200);
    expect((await post(url, { "X-Plan": "org", "X-Org": "o_1", "X-Cost": "1" })).status).toBe(429);
    expect((await post(url, { "X-Plan": "org", "X-Org": "o_2", "X-Cost": "1" })).status).toBe(200);
  });

  test("counts the address that the outermost trusted proxy saw", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" }, 1);
    const from = (address: string) => ({ "X-Forwarded-For": `198.51.100.1, ${address}` });
    expect(await statuses(5, url, from("203.0.113.7:4711"))).toEqual(FIVE);
    expect((await post(url, from("203.0.113.7"))).status).toBe(429);
    expect((await post(url, from("203.0.113.8"))).status).toBe(200);
    // Without an entry of the proxy it is the peer.
    expect(await statuses(5, url)).toEqual(FIVE);
    expect((await post(url, from("unknown"))).status).toBe(429);
  });

  test("ignores the addresses that a visitor forges", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat" });
    for (let i = 0; i < 5; i++) await post(url, { "X-Forwarded-For": `203.0.113.${i}` });
    expect((await post(url, { "X-Forwarded-For": "203.0.113.9" })).status).toBe(429);
  });

  test("takes the address from a function, else from the connection", async ({ limiter }) => {
    const options = { address: (header: (name: string) => string | undefined) => header("CF-Connecting-IP") };
    const url = await serveRoute(limiter.client, { policy: "chat", options });
    expect(await statuses(6, url, { "CF-Connecting-IP": "2001:db8::1" })).toEqual([...FIVE, 429]);
    expect((await post(url, { "CF-Connecting-IP": "2001:db8:1::1" })).status).toBe(200);
    expect((await post(url, { "CF-Connecting-IP": "[2001:db8::1]:443" })).status).toBe(429);
    expect((await post(url, { "CF-Connecting-IP": "here" })).status).toBe(400);
    expect(await statuses(5, url)).toEqual(FIVE);
    expect((await post(url, { "CF-Connecting-IP": "" })).status).toBe(429);
  });

  test("counts the user and the address among the attributes", async ({ limiter }) => {
    const subject = { user: "u_9", ip: "203.0.113.7" };
    const url = await serveRoute(limiter.client, { policy: "chat", options: { attributes: () => subject } });
    await post(url, { "X-User-Id": "u_1" });
    const { limits } = await limiter.client.check({ policy: "chat", subject });
    expect(limits.map(({ used }) => used)).toEqual([1, 1, 1]);
  });

  test("gives the cost back by the status, also when the handler throws", async ({ limiter }) => {
    const refund = (status: number) => status >= 500;
    const fail = () => {
      throw new Error("broken");
    };
    const routes = {
      "/message": { policy: "chat", options: { refund } },
      "/unavailable": { policy: "chat", options: { refund }, handle: () => 503 },
      "/broken": { policy: "chat", options: { refund }, handle: fail },
      "/charged": { policy: "chat", handle: fail },
    };
    const url = await serve({ limiter: limiter.client, routes });
    const user = { "X-User-Id": "u_1" };
    await post(`${url}/message`, user);
    for (const [path, status] of [
      ["/unavailable", 503],
      ["/broken", 500],
    ] as const) {
      expect((await post(`${url}${path}`, user)).status).toBe(status);
      await expect.poll(() => usedBy(limiter.client, "chat", "u_1")).toEqual([1, 1, 1]);
    }
    await post(`${url}/charged`, user);
    expect(await usedBy(limiter.client, "chat", "u_1")).toEqual([2, 2, 2]);
  });

  test("gives the cost back after the handler has settled it, however late that arrives", async ({ limiter }) => {
    const refund = (status: number) => status >= 500;
    const { url: service, token } = limiter;
    const slow = async (url: string, init: RequestInit) => {
      if (String(init.body).includes('"cost":7')) await new Promise((resolve) => setTimeout(resolve, 100));
      return fetch(url, init);
    };
    const client = new Limiter({ url: service, token, fetch: slow });
    const settle = vi.spyOn(client, "settle");
    const url = await serveRoute(client, {
      policy: "llm",
      options: { refund },
      handle: (charge) => {
        charge.settle(7);
        return 500;
      },
    });
    await post(url, { "X-User-Id": "u_1" });
    await expect.poll(() => settle.mock.settledResults.length).toBe(2);
    await expect.poll(() => usedBy(limiter.client, "llm", "u_1")).toEqual([0, 0]);
  });

  test("lets the handler settle the charge", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, {
      policy: "llm",
      handle: async (charge) => ((await charge.settle(8))?.cost === 8 ? 200 : 500),
    });
    expect((await post(url, { "X-User-Id": "u_1" })).status).toBe(200);
    expect((await usedBy(limiter.client, "llm", "u_1"))[0]).toBe(8);
  });

  test("releases a request once its response has ended", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "llm", options: RELEASES });
    for (let i = 0; i < 5; i++) {
      expect((await post(url, { "X-User-Id": "u_1" })).status).toBe(200);
      await expect.poll(() => usedBy(limiter.client, "llm", "u_1")).toEqual([i + 1, 0]);
    }
  });

  test("holds the place of a stream until its end", async ({ limiter }) => {
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const url = await serveRoute(limiter.client, {
      policy: "llm",
      options: RELEASES,
      handle: async function* (): AsyncGenerator<string> {
        yield "first";
        await finished;
        yield " last";
      },
    });
    const user = { "X-User-Id": "u_1" };
    const streams = [await post(url, user), await post(url, user)];
    expect((await post(url, user)).status).toBe(429);
    finish();
    expect(await Promise.all(streams.map((response) => response.text()))).toEqual(["first last", "first last"]);
    await expect.poll(() => usedBy(limiter.client, "llm", "u_1")).toEqual([2, 0]);
  });

  test("releases a stream whose visitor leaves, and charges for it", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, {
      policy: "llm",
      options: { ...RELEASES, refund: (status) => status >= 500 },
      handle: async function* (): AsyncGenerator<string> {
        for (;;) {
          yield "more ".repeat(1_000);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      },
    });
    const visitor = new AbortController();
    const response = await post(url, { "X-User-Id": "u_1" }, visitor.signal);
    await response.body?.getReader().read();
    expect(await usedBy(limiter.client, "llm", "u_1")).toEqual([1, 1]);
    visitor.abort();
    await expect.poll(() => usedBy(limiter.client, "llm", "u_1"), { timeout: 5_000 }).toEqual([1, 0]);
  });

  test("releases a request whose visitor leaves before its response", async ({ limiter }) => {
    let begin = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const handle = async () => {
      begin();
      await finished;
      return 200;
    };
    const url = await serveRoute(limiter.client, { policy: "llm", options: RELEASES, handle });
    const visitor = new AbortController();
    const response = post(url, { "X-User-Id": "u_1" }, visitor.signal);
    await begun;
    visitor.abort();
    await expect(response).rejects.toThrow("aborted");
    finish();
    await expect.poll(() => usedBy(limiter.client, "llm", "u_1")).toEqual([1, 0]);
  });

  test("leaves the release to the handler unless it is told otherwise", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "llm" });
    expect(await statuses(3, url)).toEqual([200, 200, 429]);
    const released = await serveRoute(limiter.client, {
      policy: "llm",
      options: { user: () => "u_1" },
      handle: async (charge) => ((await charge.release()) ? 200 : 500),
    });
    expect(await statuses(3, released)).toEqual([200, 200, 200]);
  });

  test("releases once, if the handler has released it", async ({ limiter }) => {
    const release = vi.spyOn(limiter.client, "release");
    onTestFinished(() => release.mockRestore());
    const handle = async (charge: { release(): Promise<unknown> }) => ((await charge.release()) ? 200 : 500);
    const url = await serveRoute(limiter.client, { policy: "llm", options: RELEASES, handle });
    expect(await statuses(3, url)).toEqual([200, 200, 200]);
    expect(release).toHaveBeenCalledTimes(3);
  });

  test("releases what the service has recorded, though its answer was lost", async ({ limiter }) => {
    const { url: service, token } = limiter;
    const lossy = async (url: string, init: RequestInit) => {
      const response = await fetch(url, init);
      if (url.endsWith("/consume")) throw new Error("lost");
      return response;
    };
    const client = new Limiter({
      url: service,
      token,
      fetch: lossy,
      onError: "allow",
      deadlineMs: 1_000,
      log: () => {},
    });
    const url = await serveRoute(client, { policy: "llm", options: RELEASES });
    expect((await post(url, { "X-User-Id": "u_1" })).status).toBe(200);
    await expect.poll(() => usedBy(limiter.client, "llm", "u_1")).toEqual([1, 0]);
  });

  test("passes everything while it is not enabled", async () => {
    const nobody = new Limiter({ url: "http://127.0.0.1:1", token: "token" });
    const handle = async (charge: { settle(cost: number): Promise<unknown> }) =>
      (await charge.settle(3)) === undefined ? 200 : 500;
    const url = await serveRoute(nobody, { policy: "chat", options: { enabled: false }, handle });
    expect(await statuses(6, url)).toEqual([...FIVE, 200]);
    expect((await post(url)).headers.get("RateLimit")).toBeNull();
  });

  test.for([
    ["deny", 503],
    ["allow", 200],
  ] as const)("answers in an outage by onError: %s", async ([onError, status]) => {
    const nobody = new Limiter({ url: "http://127.0.0.1:1", token: "token", deadlineMs: 200, onError, log: () => {} });
    const url = await serveRoute(nobody, { policy: "chat", options: { log: () => {} } });
    const response = await post(url);
    expect(response.status).toBe(status);
    expect(response.headers.get("Retry-After")).toBe(onError === "deny" ? "1" : null);
    if (onError === "deny") expect(await response.json()).toMatchObject({ status: 503, retry_after_seconds: 1 });
  });

  test.for([undefined, null, "route", "router", new Error("broken")])(
    "passes no request whose user can't be told, because a function has thrown %s",
    async (thrown, { limiter }) => {
      const user = () => {
        throw thrown;
      };
      const url = await serveRoute(limiter.client, { policy: "chat", options: { user } });
      expect((await post(url)).status).toBe(500);
    },
  );

  test("answers 500 for an attribute that is no id", async ({ limiter }) => {
    const url = await serveRoute(limiter.client, { policy: "chat", options: { user: () => 1.5 } });
    expect((await post(url)).status).toBe(500);
  });
});

test("a number of trusted proxies that is no count is refused at once", async ({ limiter }) => {
  for (const { serve } of FRAMEWORKS)
    await expect(
      (async () => serve({ limiter: limiter.client, trustedProxies: -1, routes: { "/": { policy: "chat" } } }))(),
    ).rejects.toThrow("trustedProxies must be a whole number of at least 0, not -1");
});
