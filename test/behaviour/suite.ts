import { describe, expect, test } from "vitest";
import { POLICIES } from "./policies";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

/**
 * The promises of docs/api.md, a test per sentence: run on every placement, in the test runtime and on `npm start`. The
 * policies beside chat, in `policies.ts`: `upload` (caller by user else ip: 10 per 2 seconds, 100/minute; org: 1000000
 * per day), `burst` (caller by user: 1000/minute), and two with layers in shadow.
 */
export function behaviourSuite(name: string, target: Target): void {
  const caller = new Caller(target);

  describe(`${name}: decisions`, () => {
    test("admits exactly the limit, then denies", async () => {
      const subject = newSubject();
      const outcomes: boolean[] = [];
      for (let i = 0; i < 7; i++) outcomes.push((await caller.consume("chat", subject)).allowed);
      expect(outcomes).toEqual([true, true, true, true, true, false, false]);
    });

    test("answers an admitted consume with the documented body and headers", async () => {
      const subject = newSubject();
      const response = await caller.post("/v1/consume", { policy: "chat", subject, cost: 2 });
      expect(response.status).toBe(200);
      expect(response.headers.get("Content-Type")).toBe("application/json");
      expect(response.headers.get("RateLimit-Policy")).toBe(
        '"caller/60s";q=5;w=60, "caller/3600s";q=60;w=3600, "ip/60s";q=30;w=60',
      );
      expect(response.headers.get("RateLimit")).toBe(
        '"caller/60s";r=3;t=60, "caller/3600s";r=58;t=3600, "ip/60s";r=28;t=60',
      );
      expect(response.headers.has("Retry-After")).toBe(false);
      const body = await json<DecisionBody>(response);
      const limit = (layer: string, key: string, limit: number, window_seconds: number) => {
        return { layer, key, limit, window_seconds, used: 2, remaining: limit - 2, reset_seconds: window_seconds };
      };
      expect(body).toEqual({
        allowed: true,
        id: expect.stringMatching(/^[A-Za-z0-9._~:-]{1,128}$/),
        policy: "chat",
        cost: 2,
        replayed: false,
        degraded: false,
        retry_after_seconds: null,
        limits: [
          limit("caller", `user:${subject.user}`, 5, 60),
          limit("caller", `user:${subject.user}`, 60, 3600),
          limit("ip", `ip:${subject.ip}`, 30, 60),
        ],
      });
    });

    test("answers a denied consume with a problem that a backend can pass on unchanged", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 5);
      const response = await caller.post("/v1/consume", { policy: "chat", subject });
      expect(response.status).toBe(429);
      expect(response.headers.get("Content-Type")).toBe("application/problem+json");
      expect(response.headers.get("Retry-After")).toBe("60");
      expect(response.headers.get("RateLimit")).toBe(
        '"caller/60s";r=0;t=60, "caller/3600s";r=55;t=3600, "ip/60s";r=25;t=60',
      );
      const { limits, ...body } = await json<DecisionBody & ProblemBody>(response);
      expect(body).toEqual({
        type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
        title: expect.any(String),
        status: 429,
        detail: expect.any(String),
        "violated-policies": ["caller/60s"],
        allowed: false,
        policy: "chat",
        cost: 1,
        replayed: false,
        degraded: false,
        retry_after_seconds: 60,
      });
      expect(limits.map(({ used }) => used)).toEqual([5, 5, 5]);
    });

    test("a check records nothing, has no id, and answers 200 whether allowed or denied", async () => {
      const subject = newSubject();
      const free = await caller.post("/v1/check", { policy: "chat", subject, cost: 5 });
      expect(free.status).toBe(200);
      expect(free.headers.get("RateLimit")).toBe('"caller/60s";r=5, "caller/3600s";r=60, "ip/60s";r=30');
      expect(await json(free)).toMatchObject({ allowed: true, cost: 5, retry_after_seconds: null });
      expect(await caller.check("chat", subject)).not.toHaveProperty("id");
      await caller.consume("chat", subject, 5);
      const full = await caller.post("/v1/check", { policy: "chat", subject });
      expect(full.status).toBe(200);
      expect(full.headers.get("Content-Type")).toBe("application/json");
      const denied = await json<DecisionBody>(full);
      expect(denied).toMatchObject({ allowed: false, retry_after_seconds: 60, replayed: false, degraded: false });
      expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
    });

    test("weighs a request by its cost", async () => {
      const subject = newSubject();
      expect((await caller.consume("chat", subject, 3)).allowed).toBe(true);
      expect((await caller.consume("chat", subject, 3)).allowed).toBe(false);
      expect((await caller.consume("chat", subject, 2)).allowed).toBe(true);
      expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
    });

    test("admits exactly the limit out of many simultaneous requests", async () => {
      const subject = newSubject();
      const outcomes = await Promise.all(Array.from({ length: 200 }, () => caller.consume("chat", subject)));
      expect(outcomes.filter(({ allowed }) => allowed)).toHaveLength(5);
      expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
    });

    test("a request denied by its user leaves no charge at its address", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 5);
      for (let i = 0; i < 5; i++) expect((await caller.consume("chat", subject)).allowed).toBe(false);
      expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
      expect((await caller.key(`ip:${subject.ip}`)).counters[0]?.events).toHaveLength(1);
    });

    test("a request denied by its address leaves no charge at its user", async () => {
      const { ip } = newSubject();
      for (let i = 0; i < 6; i++) await caller.consume("chat", { user: newSubject().user, ip }, 5);
      const { user } = newSubject();
      const denied = await caller.consume("chat", { user, ip });
      expect(denied).toMatchObject({ allowed: false, retry_after_seconds: expect.any(Number) });
      expect(denied.limits.map(({ used }) => used)).toEqual([0, 0, 30]);
      expect(await caller.key(`user:${user}`)).toEqual({ key: `user:${user}`, counters: [], override: null });
    });

    test("counts an anonymous caller and its address separately", async () => {
      const { ip } = newSubject();
      const anonymous = await caller.consume("chat", { ip }, 5);
      expect(anonymous.limits.map(({ layer, key, used }) => [layer, key, used])).toEqual([
        ["caller", `ip:${ip}`, 5],
        ["caller", `ip:${ip}`, 5],
        ["ip", `ip:${ip}`, 5],
      ]);
      expect((await caller.consume("chat", { ip })).allowed).toBe(false);
      const signedIn = await caller.consume("chat", { user: newSubject().user, ip });
      expect(signedIn).toMatchObject({ allowed: true });
      expect(signedIn.limits.map(({ used }) => used)).toEqual([1, 1, 6]);
    });

    test("policies share no counters", async () => {
      const subject = { ...newSubject(), org: "acme" };
      await caller.consume("chat", subject, 5);
      expect(await caller.used("upload", subject)).toEqual([0, 0, expect.any(Number)]);
    });
  });

  describe(`${name}: subjects`, () => {
    test.each([
      [{ user: "  spaced  " }, "user:spaced"],
      [{ user: "a:b/c?d#e%2F" }, "user:a:b/c?d#e%2F"],
      [{ user: "Ünï-🙂" }, "user:Ünï-🙂"],
      [{ user: "x".repeat(256) }, `user:${"x".repeat(256)}`],
      [{ user: "__proto__" }, "user:__proto__"],
    ])("%j counts as one key", async (subject, key) => {
      const decision = await caller.check("chat", { ...subject, ip: newSubject().ip });
      expect(decision.limits[0]?.key).toBe(key);
    });

    test.each([
      ["203.0.113.7", "ip:203.0.113.7"],
      [" 203.0.113.7 ", "ip:203.0.113.7"],
      ["::ffff:203.0.113.7", "ip:203.0.113.7"],
      ["::FFFF:cb00:7107", "ip:203.0.113.7"],
      ["64:ff9b::203.0.113.7", "ip:203.0.113.7"],
      ["2001:DB8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"],
      ["2001:db8:1:2::", "ip:2001:db8:1:2::/64"],
      ["::1", "ip:::/64"],
    ])("the address %j counts as %s", async (ip, key) => {
      const decision = await caller.check("chat", { ip });
      expect(decision.limits.map((limit) => limit.key)).toEqual([key, key, key]);
    });

    test("an attribute that is null, empty or blank counts as absent, and an attribute that no layer counts by is ignored", async () => {
      const { ip } = newSubject();
      for (const user of [null, "", " \t"])
        expect(
          await json(
            await caller.post("/v1/check", { policy: "chat", subject: { user, ip, plan: "pro", tier: null } }),
          ),
        ).toMatchObject({ limits: [{ key: `ip:${ip}` }, { key: `ip:${ip}` }, { key: `ip:${ip}` }] });
    });

    test("names the attribute that is missing", async () => {
      for (const subject of [{ user: "u" }, { user: "u", ip: " " }]) {
        const response = await caller.post("/v1/consume", { policy: "chat", subject });
        expect(response.status).toBe(400);
        expect(await json(response)).toMatchObject({ errors: [{ pointer: "/subject/ip" }] });
      }
      const anonymous = await json<ProblemBody>(await caller.post("/v1/consume", { policy: "chat", subject: {} }));
      expect(anonymous.errors?.map(({ pointer }) => pointer)).toEqual(["/subject/user", "/subject/ip"]);
    });
  });

  describe(`${name}: keys`, () => {
    test("shows every counter of a key, and the events behind it, newest first", async () => {
      const { ip } = newSubject();
      const first = await caller.consume("chat", { ip }, 2);
      const second = await caller.consume("chat", { ip }, 1);
      const { key, counters } = await caller.key(`ip:${ip}`);
      expect(key).toBe(`ip:${ip}`);
      expect(counters.map(({ policy, layer, events_total }) => [policy, layer, events_total])).toEqual([
        ["chat", "caller", 2],
        ["chat", "ip", 2],
      ]);
      expect(counters[1]?.limits).toEqual([
        { limit: 30, window_seconds: 60, used: 3, remaining: 27, reset_seconds: 60 },
      ]);
      for (const { events } of counters) {
        expect(events.map(({ id, cost }) => [id, cost])).toEqual([
          [second.id, 1],
          [first.id, 2],
        ]);
        for (const { at } of events) expect(new Date(at).toISOString()).toBe(at);
      }
      const one = await caller.key(`ip:${ip}`, "?events=1");
      expect(one.counters.map(({ events, events_total }) => [events.length, events_total])).toEqual([
        [1, 2],
        [1, 2],
      ]);
      expect((await caller.key(`ip:${ip}`, "?events=0")).counters[0]?.events).toEqual([]);
    });

    test("a key that was never seen, or only checked, has no counters and can be forgotten", async () => {
      const subject = newSubject();
      await caller.check("chat", subject);
      const path = `/v1/keys/${encodeURIComponent(`user:${subject.user}`)}`;
      const response = await caller.admin(path);
      expect([response.status, await json(response)]).toEqual([
        200,
        { key: `user:${subject.user}`, counters: [], override: null },
      ]);
      expect((await caller.admin(path, { method: "DELETE" })).status).toBe(204);
    });

    test("forgets a key, and no other key", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 5);
      const response = await caller.admin(`/v1/keys/${encodeURIComponent(`user:${subject.user}`)}`, {
        method: "DELETE",
      });
      expect([response.status, await response.text()]).toEqual([204, ""]);
      expect(await caller.used("chat", subject)).toEqual([0, 0, 5]);
      expect((await caller.consume("chat", subject, 5)).allowed).toBe(true);
    });

    test("takes the key of an IPv6 prefix, percent-encoded", async () => {
      const ip = `2001:db8:${Math.floor(Math.random() * 65_536).toString(16)}:1::5`;
      const decision = await caller.consume("chat", { ip });
      const key = decision.limits[0]?.key ?? "";
      expect((await caller.key(key)).counters).toHaveLength(2);
    });

    test.each([
      "user",
      "user:",
      "User:u",
      ":u",
      "user: u",
      "user:u ",
      "user:a\u0000b",
      `user:${"x".repeat(257)}`,
      "ip:2001:db8::1",
      "ip:2001:db8::1/64",
      "ip:2001:DB8::/64",
      "ip:2001:db8::/48",
      "ip:::ffff:1.2.3.4",
      "ip:64:ff9b::1.2.3.4",
      "ip:1.2.3.4/64",
      "ip:1.2.3",
    ])("the key %j is a 400, since it is not in its normal form", async (key) => {
      for (const method of ["GET", "DELETE"]) {
        const response = await caller.admin(`/v1/keys/${encodeURIComponent(key)}`, { method });
        expect([response.status, response.headers.get("Content-Type")]).toEqual([400, "application/problem+json"]);
      }
    });

    test.each([
      ["user: u é ", "user:u é"],
      ["ip:2001:DB8:0:0::1", "ip:2001:db8::/64"],
      ["ip:2001:db8::1/64", "ip:2001:db8::/64"],
      ["ip:::ffff:1.2.3.4", "ip:1.2.3.4"],
      ["ip:2001:db8::/48", null],
      ["User:u", null],
    ])("the 400 for the key %j links to the normal form %j", async (key, normal) => {
      const response = await caller.admin(`/v1/keys/${encodeURIComponent(key)}?events=0`);
      const link = normal && `</v1/keys/${encodeURIComponent(normal)}>; rel="canonical"`;
      expect([response.status, response.headers.get("Link")]).toEqual([400, link]);
      expect((await json<{ detail: string }>(response)).detail).toMatch(normal ? /normal form/ : /must be/);
    });

    test.each(["%", "user:%ff", "user:%ED%A0%80"])(
      "the path /v1/keys/%s is a 400, since it is not UTF-8",
      async (path) => {
        expect((await caller.admin(`/v1/keys/${path}`)).status).toBe(400);
      },
    );

    test.each(["events=-1", "events=1001", "events=1.5", "events=", "events=x", "events=1&events=2", "limit=5"])(
      "the query %s is a 400",
      async (query) => {
        expect((await caller.admin(`/v1/keys/user:u?${query}`)).status).toBe(400);
      },
    );

    test("lists up to 1,000 events, and 100 by default", async () => {
      const subject = { user: newSubject().user };
      await Promise.all(Array.from({ length: 120 }, () => caller.consume("burst", subject)));
      const count = async (query?: string) =>
        (await caller.key(`user:${subject.user}`, query)).counters[0]?.events.length;
      expect([await count(), await count("?events=1000"), await count("?events=101")]).toEqual([100, 120, 101]);
    });
  });

  describe(`${name}: policies and health`, () => {
    test("lists the policies", async () => {
      const response = await target.fetch("/v1/policies", {
        headers: { Authorization: `Bearer ${target.callerToken}` },
      });
      expect(response.status).toBe(200);
      const { policies } = await json<{ policies: { name: string }[] }>(response);
      expect(policies.map(({ name }) => name)).toEqual(["chat", ...Object.keys(POLICIES)]);
      expect(policies.slice(0, 2)).toEqual([
        {
          name: "chat",
          layers: [
            {
              name: "caller",
              by: ["user", "ip"],
              mode: "live",
              limits: [
                { limit: 5, window_seconds: 60 },
                { limit: 60, window_seconds: 3600 },
              ],
            },
            { name: "ip", by: ["ip"], mode: "live", limits: [{ limit: 30, window_seconds: 60 }] },
          ],
        },
        {
          name: "upload",
          layers: [
            {
              name: "caller",
              by: ["user", "ip"],
              mode: "live",
              limits: [
                { limit: 10, window_seconds: 2 },
                { limit: 100, window_seconds: 60 },
              ],
            },
            { name: "org", by: ["org"], mode: "live", limits: [{ limit: 1_000_000, window_seconds: 86_400 }] },
          ],
        },
      ]);
    });

    test("is healthy, and says so without a token", async () => {
      const response = await target.fetch("/healthz");
      expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
    });
  });

  const advance = target.advance?.bind(target);
  if (!advance) return;

  describe(`${name}: time`, () => {
    test("denies one millisecond before the oldest event leaves the window, admits at that instant", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 1);
      await advance(10_000);
      await caller.consume("chat", subject, 4);
      await advance(49_999);
      expect(await caller.consume("chat", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
      await advance(1);
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
      expect((await caller.consume("chat", subject)).allowed).toBe(false);
    });

    test.each([
      [1, 60],
      [999, 60],
      [1_000, 59],
      [1_001, 59],
      [58_999, 2],
      [59_000, 1],
      [59_999, 1],
    ])("%d ms after the limit was used up, Retry-After is %d", async (ms, seconds) => {
      const subject = newSubject();
      await caller.consume("chat", subject, 5);
      await advance(ms);
      const response = await caller.post("/v1/consume", { policy: "chat", subject });
      expect(response.headers.get("Retry-After")).toBe(String(seconds));
      expect(await json(response)).toMatchObject({ retry_after_seconds: seconds });
    });

    test("states the wait for the cost in question, and when how much comes back", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 2);
      await advance(20_000);
      await caller.consume("chat", subject, 3);
      await advance(10_000);
      expect((await caller.check("chat", subject, 2)).retry_after_seconds).toBe(30);
      expect((await caller.check("chat", subject, 3)).retry_after_seconds).toBe(50);
      const response = await caller.post("/v1/check", { policy: "chat", subject });
      expect(response.headers.get("RateLimit")).toBe(
        '"caller/60s";r=0;t=30, "caller/3600s";r=55;t=3570, "ip/60s";r=25;t=30',
      );
      const { limits } = await json<DecisionBody>(response);
      expect(limits.map(({ reset_seconds }) => reset_seconds)).toEqual([50, 3590, 50]);
    });

    test("the limit of the hour holds even if every minute stayed within its own", async () => {
      const subject = newSubject();
      let admitted = 0;
      for (let minute = 0; minute < 13; minute++) {
        for (let i = 0; i < 5; i++) admitted += (await caller.consume("chat", subject)).allowed ? 1 : 0;
        await advance(60_000);
      }
      expect(admitted).toBe(60);
      expect(await caller.consume("chat", subject)).toMatchObject({
        allowed: false,
        retry_after_seconds: 3_600 - 13 * 60,
      });
    });

    test("an event that has left every window is no longer listed with its key", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject);
      await advance(3_600_000);
      expect(await caller.key(`user:${subject.user}`)).toEqual({
        key: `user:${subject.user}`,
        counters: [],
        override: null,
      });
    });
  });
}
