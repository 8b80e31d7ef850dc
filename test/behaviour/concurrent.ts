import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

/**
 * Concurrent limits. The policy `jobs`: caller by user else ip, 2 concurrent per 5 minutes and a cost of 10 per 5
 * minutes; ip, 3 concurrent per minute. In shadow: the layer ip of `drill`, and all of `dream`, each 1 concurrent per
 * minute.
 */
export function concurrentSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const consume = (subject: object, more: object = {}, headers: Record<string, string> = {}) =>
    caller.post("/v1/consume", { policy: "jobs", subject, ...more }, headers);
  const admitted = async (subject: Record<string, string>, cost = 1) => {
    const { allowed, id = "" } = await caller.consume("jobs", subject, cost);
    expect(allowed).toBe(true);
    return id;
  };
  const release = (subject: object, id: unknown, more: object = {}) =>
    caller.post("/v1/release", { policy: "jobs", subject, id, ...more });

  describe(`${name}: concurrent limits`, () => {
    test("admit up to the limit at any cost, and the next request after a release", async () => {
      const subject = newSubject();
      const id = await admitted(subject, 4);
      const second = await consume(subject, { cost: 3 });
      expect([second.status, second.headers.get("RateLimit-Policy"), second.headers.get("RateLimit")]).toEqual([
        200,
        '"caller/300s-concurrent";q=2;qu="concurrent-requests";w=300, "caller/300s";q=10;w=300, ' +
          '"ip/60s-concurrent";q=3;qu="concurrent-requests";w=60',
        expect.stringMatching(
          /^"caller\/300s-concurrent";r=0;t=(300|29\d), "caller\/300s";r=3;t=(300|29\d), "ip\/60s-concurrent";r=1;t=(60|5\d)$/,
        ),
      ]);
      const limit = { layer: "caller", key: `user:${subject.user}`, window_seconds: 300, reset_seconds: 300 };
      expect((await json<DecisionBody>(second)).limits.slice(0, 2)).toEqual([
        { ...limit, limit: 2, concurrent: true, used: 2, remaining: 0 },
        { ...limit, limit: 10, used: 7, remaining: 3 },
      ]);

      const denied = await consume(subject);
      expect([denied.status, Number(denied.headers.get("Retry-After")) >= 290]).toEqual([429, true]);
      expect(await json(denied)).toMatchObject({
        allowed: false,
        "violated-policies": ["caller/300s-concurrent"],
        limits: [{ used: 2 }, { used: 7 }, { used: 2 }],
      });

      const released = await release(subject, id);
      expect([released.status, released.headers.has("RateLimit")]).toEqual([200, true]);
      const body = await json<DecisionBody>(released);
      expect(body).toEqual({ id, policy: "jobs", released: true, limits: expect.any(Array) });
      expect(body.limits.map(({ used }) => used)).toEqual([1, 7, 1]);
      await admitted(subject);
      expect((await consume(subject)).status).toBe(429);
    });

    test("a repeated release gives back one place and no cost", async () => {
      const subject = newSubject();
      const id = await admitted(subject, 2);
      await admitted(subject, 3);
      for (let i = 0; i < 3; i++) {
        expect((await release(subject, id)).status).toBe(200);
        expect(await caller.used("jobs", subject)).toEqual([1, 5, 1]);
      }
    });

    test("a consume that was settled at 0 keeps its place until it is released", async () => {
      const subject = newSubject();
      const ids = [await admitted(subject, 2), await admitted(subject, 2)];
      for (const id of ids)
        expect((await caller.post("/v1/settle", { policy: "jobs", subject, id, cost: 0 })).status).toBe(200);
      expect(await caller.used("jobs", subject)).toEqual([2, 0, 2]);
      expect((await consume(subject)).status).toBe(429);
      expect((await release(subject, ids[0])).status).toBe(200);
      expect(await caller.used("jobs", subject)).toEqual([1, 0, 1]);
      expect((await caller.post("/v1/settle", { policy: "jobs", subject, id: ids[0], cost: 9 })).status).toBe(200);
      expect(await caller.used("jobs", subject)).toEqual([1, 9, 1]);
    });

    test("a repeated idempotency key takes one place, and none after its release", async () => {
      const subject = newSubject();
      const key = { "Idempotency-Key": `key_${crypto.randomUUID()}` };
      const replayed = async () => (await json<DecisionBody>(await consume(subject, {}, key))).replayed;
      expect([await replayed(), await replayed()]).toEqual([false, true]);
      expect(await caller.used("jobs", subject)).toEqual([1, 1, 1]);
      await release(subject, key["Idempotency-Key"]);
      expect(await replayed()).toBe(true);
      expect(await caller.used("jobs", subject)).toEqual([0, 1, 0]);
    });

    test("a request denied by one layer holds no place in another", async () => {
      const { ip } = newSubject();
      for (let i = 0; i < 3; i++) await admitted({ user: newSubject().user, ip });
      const subject = { user: newSubject().user, ip };
      const denied = await consume(subject);
      expect([denied.status, await json(denied)]).toMatchObject([429, { "violated-policies": ["ip/60s-concurrent"] }]);
      expect(await caller.used("jobs", subject)).toEqual([0, 0, 3]);
    });

    test("admit exactly the limit out of many simultaneous requests", async () => {
      const subject = newSubject();
      const decisions = await Promise.all(Array.from({ length: 50 }, () => caller.consume("jobs", subject)));
      const ids = decisions.flatMap(({ id }) => id ?? []);
      expect(ids).toHaveLength(2);
      await Promise.all(ids.map((id) => release(subject, id)));
      expect(await caller.used("jobs", subject)).toEqual([0, 2, 0]);
    });

    test("admit a cost above the limit", async () => {
      expect((await consume(newSubject(), { cost: 10 })).status).toBe(200);
      expect((await consume(newSubject(), { cost: 11 })).status).toBe(422);
    });

    test("a release of an unknown decision is a 404, and changes nothing", async () => {
      const subject = newSubject();
      const id = await admitted(subject);
      for (const body of [
        { id: "nope" },
        { policy: "upload", subject: { ...subject, org: "o" } },
        { policy: "nope" },
        { subject: { ...subject, user: "another" } },
        { subject: { ip: subject.ip } },
      ]) {
        const response = await release(subject, id, body);
        expect([response.status, response.headers.get("Content-Type")]).toEqual([404, "application/problem+json"]);
      }
      expect(await caller.used("jobs", subject)).toEqual([1, 1, 1]);
    });

    test.each([
      [{ id: undefined }, ["/id"]],
      [{ id: "no spaces", cost: 1 }, ["/cost", "/id"]],
      [{ subject: { ip: "nowhere" }, more: 1 }, ["/more", "/subject/ip"]],
    ])("a release with %j is a 400 that points at each mistake", async (change, pointers) => {
      const response = await release(newSubject(), "x", change);
      const { errors } = await json<ProblemBody>(response);
      expect([response.status, errors?.map(({ pointer }) => pointer).sort()]).toEqual([400, pointers]);
    });

    test("a release by a policy without concurrent limits is acknowledged, and changes nothing", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 2);
      expect((await release(subject, id, { policy: "chat" })).status).toBe(200);
      expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    });

    test("a batch decides releases in order", async () => {
      const subject = newSubject();
      const one = { policy: "jobs", subject };
      const response = await caller.post("/v1/batch", {
        requests: [
          { op: "consume", idempotency_key: "a", ...one },
          { op: "consume", ...one },
          { op: "consume", ...one },
          { op: "release", id: "a", ...one },
          { op: "release", id: "b", ...one },
          { op: "release", ...one },
          { op: "consume", ...one },
        ],
      });
      const { results } = await json<{ results: { status: number; body: object }[] }>(response);
      expect(results.map(({ status }) => status)).toEqual([200, 200, 429, 200, 404, 400, 200]);
      expect(results[3]?.body).toMatchObject({
        id: "a",
        policy: "jobs",
        released: true,
        limits: [{ used: 1 }, {}, {}],
      });
    });

    test("are listed with the policies and with the counters of a key", async () => {
      const subject = newSubject();
      await admitted(subject, 3);
      const { policies } = await json<{ policies: { name: string; layers: unknown }[] }>(
        await caller.admin("/v1/policies"),
      );
      expect(policies.find(({ name }) => name === "jobs")?.layers).toMatchObject([
        {
          limits: [
            { limit: 2, window_seconds: 300, concurrent: true },
            { limit: 10, window_seconds: 300 },
          ],
        },
        { limits: [{ limit: 3, window_seconds: 60, concurrent: true }] },
      ]);
      const { counters } = await caller.key(`user:${subject.user}`);
      expect(counters).toMatchObject([
        { policy: "jobs", limits: [{ concurrent: true, used: 1, remaining: 1 }, { used: 3 }] },
      ]);
    });

    test("say of each listed event whether it was released", async () => {
      const subject = newSubject();
      const ids = [await admitted(subject), await admitted(subject, 3)];
      await release(subject, ids[0]);
      const { counters } = await caller.key(`user:${subject.user}`);
      expect(counters[0]?.events.map(({ at, ...event }) => event)).toEqual([
        { id: ids[1], cost: 3 },
        { id: ids[0], cost: 1, released: true },
      ]);
    });

    test("deny nothing in shadow, where a release reaches them with and without live layers", async () => {
      const subject = newSubject();
      const consumed = async (policy: string) => {
        const body = await json<DecisionBody & { would_deny: boolean }>(
          await caller.post("/v1/consume", { policy, subject }),
        );
        expect(body.allowed).toBe(true);
        return { id: body.id, would_deny: body.would_deny };
      };
      const usedAfter = async (policy: string, id: unknown) =>
        (await json<DecisionBody>(await release(subject, id, { policy }))).limits.map(({ used }) => used);
      const [first, second] = [await consumed("drill"), await consumed("drill")];
      expect([first.would_deny, second.would_deny]).toEqual([false, true]);
      expect(await usedAfter("drill", first.id)).toEqual([1, 0]);
      expect((await consumed("drill")).would_deny).toBe(false);
      // It was never recorded in shadow, where another consume has taken the place.
      expect(await usedAfter("drill", second.id)).toEqual([1, 1]);

      const alone = await consumed("dream");
      expect((await consumed("dream")).would_deny).toBe(true);
      for (let i = 0; i < 2; i++) expect(await usedAfter("dream", alone.id)).toEqual([0]);
      expect((await consumed("dream")).would_deny).toBe(false);
      for (const policy of ["drill", "dream"]) expect((await release(subject, "nope", { policy })).status).toBe(404);
    });

    test("can be inline, with inline releases", async () => {
      const layers = [{ name: "job", key: crypto.randomUUID(), limits: ["1 concurrent/hour"] }];
      const consumeInline = async (cost: number) => caller.post("/v1/inline/consume", { layers, cost });
      const { id, limits } = await json<DecisionBody>(await consumeInline(1_000));
      expect(limits).toMatchObject([{ concurrent: true, used: 1 }]);
      expect((await consumeInline(1)).status).toBe(429);
      const released = await caller.post("/v1/inline/release", { layers, id });
      expect([released.status, await json(released)]).toMatchObject([200, { id, policy: "inline", released: true }]);
      expect((await caller.post("/v1/inline/release", { layers, id: "nope" })).status).toBe(404);
      expect((await consumeInline(1_000_000_001)).status).toBe(422);
      expect((await consumeInline(1_000_000_000)).status).toBe(200);
    });
  });

  const advance = target.advance?.bind(target);
  if (!advance) return;

  describe(`${name}: concurrent limits over time`, () => {
    test("a place that is never released is freed at the end of its window, to the millisecond", async () => {
      const subject = newSubject();
      await admitted(subject);
      await advance(60_000);
      const later = await admitted(subject);
      await advance(239_999);
      expect(await caller.consume("jobs", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
      await advance(1);
      await admitted(subject);
      expect(await caller.consume("jobs", subject)).toMatchObject({ allowed: false, retry_after_seconds: 60 });
      await release(subject, later);
      await admitted(subject);
      expect(await caller.consume("jobs", subject)).toMatchObject({ allowed: false, retry_after_seconds: 300 });
    });

    test("a release is acknowledged until the object forgets the decision", async () => {
      const subject = newSubject();
      const id = await admitted(subject);
      await advance(299_999);
      expect(await caller.used("jobs", subject)).toEqual([1, 1, 0]);
      expect((await release(subject, id)).status).toBe(200);
      expect(await caller.used("jobs", subject)).toEqual([0, 1, 0]);
      await advance(1);
      expect((await release(subject, id)).status).toBe(404);
    });
  });
}
