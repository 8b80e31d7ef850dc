import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

/** Overrides by key: bans, exemptions and other limits. */
export function overrideSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const pathOf = (key: string) => `/v1/keys/${encodeURIComponent(key)}/override`;
  const put = (key: string, body: unknown, headers: Record<string, string> = {}) =>
    target.fetch(pathOf(key), {
      method: "PUT",
      headers: { Authorization: `Bearer ${target.adminToken}`, "Content-Type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  const lift = (key: string) => caller.admin(pathOf(key), { method: "DELETE" });
  const forAMinute = { reason: "a test", expires_in_seconds: 60 };
  async function set(key: string, body: object): Promise<void> {
    expect((await put(key, { ...forAMinute, ...body })).status).toBe(200);
  }
  const limitsOf = (layer: string, ...limits: string[]) => ({
    kind: "limits",
    limits: [{ policy: "chat", layer, limits }],
  });
  const consume = (subject: object, more: object = {}, headers: Record<string, string> = {}) =>
    caller.post("/v1/consume", { policy: "chat", subject, ...more }, headers);

  describe(`${name}: overrides`, () => {
    test("a ban of a key that only a layer in shadow counts by is shown, and denies nobody", async () => {
      const subject = { ...newSubject(), org: `o_${crypto.randomUUID()}` };
      await set(`org:${subject.org}`, { kind: "ban" });
      const { allowed, would_deny: wouldDeny, limits } = await caller.consume("trial", subject);
      expect([allowed, wouldDeny]).toEqual([true, true]);
      expect(limits.map(({ layer, override }) => [layer, override])).toEqual([
        ["ip", undefined],
        ["caller", undefined],
        ["org", "ban"],
      ]);
    });

    test("can be concurrent limits, which count earlier events too", async () => {
      const subject = newSubject();
      const first = await caller.consume("chat", subject);
      await set(`user:${subject.user}`, limitsOf("caller", "1 concurrent/minute", "5/minute"));
      const denied = await caller.consume("chat", subject);
      expect(denied).toMatchObject({ allowed: false, limits: [{ concurrent: true, used: 1, remaining: 0 }, {}, {}] });
      await caller.post("/v1/release", { policy: "chat", subject, id: first.id });
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
    });

    test("a ban denies without a charge, and the first consume after it is lifted is admitted", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      const response = await put(key, { kind: "ban", ...forAMinute });
      expect([response.status, response.headers.get("Content-Type")]).toEqual([200, "application/json"]);
      const { override } = await json<{ override: { expires_at: string } }>(response);
      expect(override).toEqual({ kind: "ban", reason: "a test", expires_at: expect.any(String) });
      expect(new Date(override.expires_at).toISOString()).toBe(override.expires_at);
      for (let i = 0; i < 2; i++) {
        const denied = await consume(subject);
        expect([denied.status, Number(denied.headers.get("Retry-After")) >= 55]).toEqual([429, true]);
        const body = await json<DecisionBody & { "violated-policies": string[] }>(denied);
        expect(body["violated-policies"]).toEqual(["caller/60s", "caller/3600s"]);
        expect(body.limits.map(({ used, override }) => [used, override])).toEqual([
          [0, "ban"],
          [0, "ban"],
          [0, undefined],
        ]);
        expect(JSON.stringify(body)).not.toContain("a test");
      }
      const gone = await lift(key);
      expect([gone.status, await gone.text()]).toEqual([204, ""]);
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
      expect((await lift(key)).status).toBe(204);
    });

    test("the largest limits are shown in the largest unit, and count all that was settled", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      const response = await put(key, { ...forAMinute, ...limitsOf("caller", "1000000000 per 30 days", "5/week") });
      expect(await json(response)).toMatchObject({
        override: { limits: [{ policy: "chat", layer: "caller", limits: ["1000000000/month", "5/week"] }] },
      });
      const { id } = await caller.consume("chat", subject);
      await caller.post("/v1/settle", { policy: "chat", subject, id, cost: 999_999_999 });
      expect((await caller.consume("chat", subject, 2)).limits.map(({ used }) => used).slice(0, 2)).toEqual([
        1e9 - 1,
        1e9 - 1,
      ]);
      await set(key, limitsOf("caller", "1000000000/month"));
      expect((await caller.consume("chat", subject, 2)).allowed).toBe(false);
      const refused = await put(key, { ...forAMinute, ...limitsOf("caller", "1000000001/month", "1 per 2 months") });
      expect((await json<ProblemBody>(refused)).errors?.map(({ pointer }) => pointer)).toEqual([
        "/limits/0/limits/0",
        "/limits/0/limits/1",
      ]);
    });

    test("concurrent limits are shown as they were set, and enforced", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      const response = await put(key, { ...forAMinute, ...limitsOf("caller", "1 concurrent per 5 minutes") });
      expect(await json(response)).toMatchObject({
        override: { limits: [{ policy: "chat", layer: "caller", limits: ["1 concurrent per 5 minutes"] }] },
      });
      const first = await consume(subject, { cost: 5 });
      expect(first.headers.get("RateLimit-Policy")).toBe(
        '"caller/300s-concurrent";q=1;qu="concurrent-requests";w=300, "ip/60s";q=30;w=60',
      );
      const { id, limits } = await json<DecisionBody>(first);
      expect(limits[0]).toMatchObject({ override: "limits", concurrent: true, limit: 1, used: 1 });
      expect((await consume(subject)).status).toBe(429);
      expect((await caller.post("/v1/release", { policy: "chat", subject, id })).status).toBe(200);
      expect((await caller.consume("chat", subject)).limits.map(({ used }) => used)).toEqual([1, 6]);
    });

    test("an exemption admits and records costs above the key's limits, but not above those of other keys", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      await set(key, { kind: "exempt" });
      for (let i = 0; i < 6; i++) expect((await caller.consume("chat", subject, 5)).allowed).toBe(true);
      const denied = await caller.consume("chat", subject, 5);
      expect(denied.limits.map(({ used, override }) => [used, override])).toEqual([
        [30, "exempt"],
        [30, "exempt"],
        [30, undefined],
      ]);
      expect(denied.allowed).toBe(false);
      await lift(key);
      expect((await caller.check("chat", subject)).limits.map(({ used }) => used)).toEqual([30, 30, 30]);
    });

    test("other limits replace those of the named layer, in the body and the headers", async () => {
      const subject = newSubject();
      await set(`user:${subject.user}`, limitsOf("caller", "2 per 30 seconds", "7/day"));
      const first = await consume(subject, { cost: 2 });
      expect([first.status, first.headers.get("RateLimit-Policy"), first.headers.get("RateLimit")]).toEqual([
        200,
        '"caller/30s";q=2;w=30, "caller/86400s";q=7;w=86400, "ip/60s";q=30;w=60',
        '"caller/30s";r=0;t=30, "caller/86400s";r=5;t=86400, "ip/60s";r=28;t=60',
      ]);
      const { limits } = await json<DecisionBody>(first);
      expect(limits.map(({ limit, window_seconds, override }) => [limit, window_seconds, override])).toEqual([
        [2, 30, "limits"],
        [7, 86_400, "limits"],
        [30, 60, undefined],
      ]);
      const second = await consume(subject);
      expect(second.status).toBe(429);
      expect(await json(second)).toMatchObject({ "violated-policies": ["caller/30s"] });
      // Another key of the same policy has the policy's own limits and header.
      const other = await consume(newSubject());
      expect(other.headers.get("RateLimit-Policy")).toBe(
        '"caller/60s";q=5;w=60, "caller/3600s";q=60;w=3600, "ip/60s";q=30;w=60',
      );
    });

    test("higher limits admit more than the policy's own", async () => {
      const subject = newSubject();
      await set(`user:${subject.user}`, limitsOf("caller", "12/minute"));
      const outcomes: boolean[] = [];
      for (let i = 0; i < 13; i++) outcomes.push((await caller.consume("chat", subject)).allowed);
      expect(outcomes.filter((allowed) => allowed)).toHaveLength(12);
      expect(outcomes.at(-1)).toBe(false);
    });

    test("a ban holds for all layers that count by the key, other limits only for the named layer", async () => {
      const { ip } = newSubject();
      const kinds = async () => (await caller.check("chat", { ip })).limits.map(({ override }) => override);
      await set(`ip:${ip}`, { kind: "ban" });
      expect(await kinds()).toEqual(["ban", "ban", "ban"]);
      await set(`ip:${ip}`, limitsOf("ip", "1/minute"));
      expect(await kinds()).toEqual([undefined, undefined, "limits"]);
      expect((await caller.consume("chat", { ip })).allowed).toBe(true);
      expect(await caller.consume("chat", { ip })).toMatchObject({ allowed: false, limits: [{}, {}, { limit: 1 }] });
    });

    test("a cost above an overridden limit waits until the override ends", async () => {
      const subject = newSubject();
      await set(`user:${subject.user}`, limitsOf("caller", "2/second"));
      const denied = await caller.consume("chat", subject, 3);
      expect(denied.allowed).toBe(false);
      expect(denied.retry_after_seconds).toBeGreaterThanOrEqual(55);
      expect(denied.retry_after_seconds).toBeLessThanOrEqual(60);
    });

    test("under a ban a known idempotency key replays, and its decision can be settled", async () => {
      const subject = newSubject();
      const once = () => consume(subject, { cost: 3 }, { "Idempotency-Key": "once" });
      expect((await once()).status).toBe(200);
      await set(`user:${subject.user}`, { kind: "ban" });
      const replay = await once();
      expect(await json(replay)).toMatchObject({
        allowed: true,
        replayed: true,
        limits: [{ used: 3, override: "ban" }, {}, {}],
      });
      expect((await consume(subject)).status).toBe(429);
      const settled = await caller.post("/v1/settle", { policy: "chat", subject, id: "once", cost: 1 });
      expect(await json(settled)).toMatchObject({ cost: 1, limits: [{ used: 1, override: "ban" }, {}, {}] });
      expect(await caller.used("chat", subject)).toEqual([1, 1, 1]);
    });

    test("hold for batches too", async () => {
      const [banned, free] = [newSubject(), newSubject()];
      await set(`user:${banned.user}`, { kind: "ban" });
      const requests = [banned, free].map((subject) => ({ op: "consume", policy: "chat", subject }));
      const { results } = await json<{ results: { status: number }[] }>(await caller.post("/v1/batch", { requests }));
      expect(results.map(({ status }) => status)).toEqual([429, 200]);
    });

    test("a key shows its override beside its counters, and keeps it when the key is forgotten", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      expect(await caller.key(key)).toEqual({ key, override: null, counters: [] });
      const body = {
        reason: "  pays  ",
        expires_at: "2040-01-05T00:00:00+01:00",
        ...limitsOf("caller", "600 per 2 hours"),
      };
      const isAhead = Date.parse(body.expires_at) - Date.now() <= 366 * 86_400_000;
      const request = isAhead ? body : { ...body, expires_at: new Date(Date.now() + 86_400_000).toISOString() };
      const response = await put(key, request);
      const expected = {
        key,
        override: {
          kind: "limits",
          reason: "pays",
          expires_at: new Date(request.expires_at).toISOString(),
          limits: [{ policy: "chat", layer: "caller", limits: ["600 per 2 hours"] }],
        },
      };
      expect([response.status, await json(response)]).toEqual([200, expected]);
      expect(await caller.key(key)).toEqual({ ...expected, counters: [] });
      await caller.consume("chat", subject);
      const { counters } = await caller.key(key);
      expect(counters).toMatchObject([
        { limits: [{ limit: 600, window_seconds: 7_200, used: 1, override: "limits" }] },
      ]);
      await caller.admin(`/v1/keys/${encodeURIComponent(key)}`, { method: "DELETE" });
      expect(await caller.key(key)).toEqual({ ...expected, counters: [] });
      await lift(key);
      expect((await caller.key(key)).override).toBeNull();
    });

    test.each([
      ["an empty object", {}, ["/expires_at", "/kind", "/reason"]],
      ["a list", "[]", [""]],
      ["an unknown kind and field", { ...forAMinute, kind: "mute", for: 5 }, ["/for", "/kind"]],
      ["a blank reason", { ...forAMinute, kind: "ban", reason: "  " }, ["/reason"]],
      ["a reason of 501 characters", { ...forAMinute, kind: "ban", reason: "x".repeat(501) }, ["/reason"]],
      ["an end that has passed", { kind: "ban", reason: "r", expires_at: "2001-01-01T00:00:00Z" }, ["/expires_at"]],
      ["an end too far ahead", { kind: "ban", reason: "r", expires_at: "9999-01-01T00:00:00Z" }, ["/expires_at"]],
      ["an invalid instant", { kind: "ban", reason: "r", expires_at: "tomorrow" }, ["/expires_at"]],
      ["a duration of zero", { kind: "ban", reason: "r", expires_in_seconds: 0 }, ["/expires_in_seconds"]],
      ["a duration too long", { kind: "ban", reason: "r", expires_in_seconds: 31_622_401 }, ["/expires_in_seconds"]],
      ["two ends", { kind: "ban", ...forAMinute, expires_at: "2040-01-01T00:01:00Z" }, ["/expires_in_seconds"]],
      ["missing limits", { kind: "limits", ...forAMinute }, ["/limits"]],
      ["an empty list of limits", { kind: "limits", ...forAMinute, limits: [] }, ["/limits"]],
      ["a ban with limits", { ...limitsOf("caller", "1/minute"), kind: "ban", ...forAMinute }, ["/limits"]],
      [
        "every mistake at once",
        {
          kind: "limits",
          limits: [
            { policy: "nope", layer: "caller", limits: ["1/minute"] },
            { policy: "chat", layer: "nope", limits: ["1/minute", "2 per 60 seconds"] },
            { policy: "chat", layer: "ip", limits: ["1/minute"] },
            { policy: "chat", layer: "caller", limits: ["much"], more: 1 },
            { policy: 5, limits: [] },
          ],
        },
        [
          "/expires_at",
          "/limits/0/policy",
          "/limits/1/layer",
          "/limits/1/limits",
          "/limits/2/layer",
          "/limits/3/limits/0",
          "/limits/3/more",
          "/limits/4/layer",
          "/limits/4/limits",
          "/limits/4/policy",
          "/reason",
        ],
      ],
      [
        "a layer twice",
        {
          ...forAMinute,
          kind: "limits",
          limits: [limitsOf("caller", "1/day"), limitsOf("caller", "2/day")].flatMap(({ limits }) => limits),
        },
        ["/limits"],
      ],
    ])("refuse %s with a 400 that points at each mistake, and set nothing", async (_, body, pointers) => {
      const key = `user:${newSubject().user}`;
      const response = await put(key, body);
      expect([response.status, response.headers.get("Content-Type")]).toEqual([400, "application/problem+json"]);
      const { errors = [] } = await json<ProblemBody>(response);
      expect(errors.map(({ pointer }) => pointer).sort()).toEqual(pointers);
      expect((await caller.key(key)).override).toBeNull();
    });

    test("are refused in the documented order", async () => {
      const valid = { kind: "ban", ...forAMinute };
      const statuses = [
        await put("user:u", valid, { Authorization: "Bearer wrong" }),
        await put("user:u", valid, { Authorization: `Bearer ${target.callerToken}` }),
        await put("nokey", "{", { "Content-Type": "text/plain" }),
        await put("nokey", " ".repeat(8_193)),
        await put("nokey", valid),
        await put("user:u", "{"),
        await caller.admin(pathOf("user:u")),
        await lift("nokey"),
      ].map(({ status }) => status);
      expect(statuses).toEqual([401, 403, 415, 413, 400, 400, 405, 400]);
    });

    test("do not hold for inline limits", async () => {
      const { ip } = newSubject();
      await set(`ip:${ip}`, { kind: "ban" });
      const layers = [{ name: "login", key: `ip:${ip}`, limits: ["1/minute"] }];
      expect((await caller.post("/v1/inline/consume", { layers })).status).toBe(200);
    });
  });

  const advance = target.advance?.bind(target);
  if (!advance) return;

  describe(`${name}: the end of an override`, () => {
    test("comes at the stated instant, and not a millisecond before", async () => {
      const subject = newSubject();
      await set(`user:${subject.user}`, { kind: "ban" });
      await advance(59_999);
      expect(await caller.consume("chat", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
      expect((await caller.key(`user:${subject.user}`)).override).not.toBeNull();
      await advance(1);
      expect((await caller.key(`user:${subject.user}`)).override).toBeNull();
      const admitted = await caller.consume("chat", subject);
      expect(admitted.allowed).toBe(true);
      expect(admitted.limits[0]).not.toHaveProperty("override");
    });

    test("may leave a longer wait for the policy's own limits", async () => {
      const subject = newSubject();
      await caller.consume("chat", subject, 5);
      await advance(30_000);
      await set(`user:${subject.user}`, { kind: "ban", expires_in_seconds: 10 });
      expect((await caller.consume("chat", subject)).retry_after_seconds).toBe(30);
      await set(`user:${subject.user}`, { kind: "ban", expires_in_seconds: 40 });
      expect((await caller.consume("chat", subject)).retry_after_seconds).toBe(40);
      await advance(39_999);
      expect((await caller.consume("chat", subject)).allowed).toBe(false);
      await advance(1);
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
    });

    test("takes back an exemption: a wait for another key does not count on it", async () => {
      const subject = newSubject();
      for (let i = 0; i < 6; i++) await caller.consume("chat", { user: newSubject().user, ip: subject.ip }, 5);
      await advance(45_000);
      const elsewhere = { user: subject.user, ip: newSubject().ip };
      await caller.consume("chat", elsewhere, 5);
      const waits = async () => {
        const { retry_after_seconds, limits } = await caller.check("chat", subject);
        return [retry_after_seconds, ...limits.map(({ override }) => override)];
      };
      expect(await waits()).toEqual([60, undefined, undefined, undefined]);
      // The address has room in 15 seconds. The user is exempt then, or has to wait for its own limit again.
      await set(`user:${subject.user}`, { kind: "exempt", expires_in_seconds: 16 });
      expect(await waits()).toEqual([15, "exempt", "exempt", undefined]);
      await set(`user:${subject.user}`, { kind: "exempt", expires_in_seconds: 15 });
      expect(await waits()).toEqual([60, "exempt", "exempt", undefined]);
      await advance(15_000);
      expect((await caller.consume("chat", subject)).retry_after_seconds).toBe(45);
      await advance(45_000);
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
    });

    test("comes before a wider window has passed: until then its events count in it", async () => {
      const subject = newSubject();
      await set(`user:${subject.user}`, { ...limitsOf("caller", "5/day"), expires_in_seconds: 172_800 });
      await caller.consume("chat", subject, 5);
      await advance(86_399_999);
      expect(await caller.consume("chat", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
      await advance(1);
      expect((await caller.consume("chat", subject)).allowed).toBe(true);
    });
  });
}
