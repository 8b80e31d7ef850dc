import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

/** Retries of a consume, and settles. */
export function idempotencySuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const newKey = () => `key_${crypto.randomUUID()}`;
  const consume = (key: string, body: object) => caller.post("/v1/consume", body, { "Idempotency-Key": key });
  const settle = (body: object) => caller.post("/v1/settle", body);

  describe(`${name}: idempotency`, () => {
    test("a repeated key is charged once, and answered with the current counters", async () => {
      const subject = newSubject();
      const key = newKey();
      const first = await json<DecisionBody>(await consume(`"${key}"`, { policy: "chat", subject, cost: 2 }));
      expect(first).toMatchObject({ allowed: true, id: key, replayed: false });
      await caller.consume("chat", subject, 1);
      for (const spelling of [`"${key}"`, key]) {
        const again = await consume(spelling, { policy: "chat", subject, cost: 2 });
        expect(again.status).toBe(200);
        const body = await json<DecisionBody>(again);
        expect(body).toMatchObject({ allowed: true, id: key, replayed: true, cost: 2, retry_after_seconds: null });
        expect(body.limits.map(({ used }) => used)).toEqual([3, 3, 3]);
      }
    });

    test("a replay is admitted even if the limit is used up by then", async () => {
      const subject = newSubject();
      const key = newKey();
      await consume(key, { policy: "chat", subject, cost: 5 });
      expect((await caller.consume("chat", subject)).allowed).toBe(false);
      expect(await json(await consume(key, { policy: "chat", subject, cost: 5 }))).toMatchObject({
        allowed: true,
        replayed: true,
      });
    });

    test("simultaneous requests with one key are charged once: all but one are replays", async () => {
      const subject = newSubject();
      const key = newKey();
      const answers = await Promise.all(
        Array.from({ length: 50 }, async () =>
          json<DecisionBody>(await consume(key, { policy: "chat", subject, cost: 2 })),
        ),
      );
      expect(answers.every(({ allowed }) => allowed)).toBe(true);
      expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
      expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    });

    test("a denied attempt is not remembered: a retry is decided anew", async () => {
      const subject = newSubject();
      const key = newKey();
      const blocking = await caller.consume("chat", subject, 5);
      expect((await consume(key, { policy: "chat", subject })).status).toBe(429);
      await settle({ policy: "chat", subject, id: blocking.id, cost: 0 });
      expect(await json(await consume(key, { policy: "chat", subject }))).toMatchObject({
        allowed: true,
        replayed: false,
      });
    });

    test("the same key of another subject is another decision, even if they share an address", async () => {
      const { user, ip } = newSubject();
      const key = newKey();
      for (const subject of [{ user, ip }, { user: newSubject().user, ip }, { ip }, { user, ip: newSubject().ip }])
        expect(await json(await consume(key, { policy: "chat", subject }))).toMatchObject({
          allowed: true,
          replayed: false,
        });
      expect(await caller.used("chat", { user, ip })).toEqual([2, 2, 3]);
    });

    test("a subject is the same in any spelling and with any attributes that no policy counts by", async () => {
      const key = newKey();
      const { user, ip } = newSubject();
      await consume(key, { policy: "chat", subject: { user, ip } });
      const spelt = { user: ` ${user} `, ip: `::ffff:${ip}`, plan: "pro", org: null };
      expect(await json(await consume(key, { policy: "chat", subject: spelt }))).toMatchObject({ replayed: true });
    });

    test("a retry from another address, or without an address, is a replay", async () => {
      const { user, ip } = newSubject();
      const key = newKey();
      await consume(key, { policy: "burst", subject: { user, ip } });
      for (const subject of [{ user, ip: newSubject().ip }, { user }])
        expect(await json(await consume(key, { policy: "burst", subject }))).toMatchObject({ replayed: true });
      expect((await settle({ policy: "burst", subject: { user }, id: key, cost: 3 })).status).toBe(200);
      expect(await caller.used("burst", { user })).toEqual([3]);
    });

    test("a charged key replays even after another policy has charged it for an identity of its own", async () => {
      const subject = { ...newSubject(), org: "o" };
      const key = newKey();
      const { user, org } = subject;
      expect((await consume(key, { policy: "chat", subject })).status).toBe(200);
      expect((await consume(key, { policy: "upload", subject: { user, org } })).status).toBe(200);
      expect(await json(await consume(key, { policy: "chat", subject }))).toMatchObject({ replayed: true });
    });

    test("the same key and subject with another cost or policy is a 422, and charges nothing", async () => {
      const subject = newSubject();
      const key = newKey();
      await consume(key, { policy: "chat", subject, cost: 2 });
      for (const body of [
        { policy: "chat", subject, cost: 1 },
        { policy: "chat", subject },
        { policy: "burst", subject, cost: 2 },
      ]) {
        const response = await consume(key, body);
        expect([response.status, response.headers.get("Content-Type")]).toEqual([422, "application/problem+json"]);
      }
      expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
      expect(await caller.used("burst", subject)).toEqual([0]);
    });

    test.each(['""', '"', "a b", 'a"b', "k".repeat(129), '"k', "a,b", "(k)"])("the key %j is a 400", async (key) => {
      const response = await consume(key, {
        policy: "chat",
        subject: newSubject(),
      });
      expect((await json<ProblemBody>(response)).errors?.map(({ pointer }) => pointer)).toEqual(["/idempotency_key"]);
      expect(response.status).toBe(400);
    });

    test("a key of 128 characters is valid", async () => {
      const key = "A.z_0~:-".repeat(16);
      const body = await json<DecisionBody>(await consume(key, { policy: "chat", subject: newSubject() }));
      expect(body.id).toBe(key);
    });
  });

  describe(`${name}: settle`, () => {
    test("sets the cost in every layer, below and above the first cost and the limit, and is safe to repeat", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 3);
      for (const cost of [1, 4, 4, 40, 0, 0, 2]) {
        const response = await settle({ policy: "chat", subject, id, cost });
        expect([response.status, response.headers.has("RateLimit")]).toEqual([200, true]);
        const body = await json<DecisionBody>(response);
        expect(Object.keys(body).sort()).toEqual(["cost", "id", "limits", "policy"]);
        expect(body).toMatchObject({ id, policy: "chat", cost });
        expect(body.limits.map(({ used }) => used)).toEqual([cost, cost, cost]);
        expect(body.limits.map(({ remaining }) => remaining)).toEqual([
          Math.max(0, 5 - cost),
          60 - cost,
          Math.max(0, 30 - cost),
        ]);
      }
      expect((await caller.key(`user:${subject.user}`)).counters[0]?.events.map(({ id, cost }) => [id, cost])).toEqual([
        [id, 2],
      ]);
    });

    test("shows the admitted cost beside the settled cost, if they differ", async () => {
      const subject = newSubject();
      const ids: (string | undefined)[] = [];
      for (const cost of [0, 1, 2]) {
        const { id } = await caller.consume("chat", subject, 1);
        await settle({ policy: "chat", subject, id, cost });
        ids.unshift(id);
      }
      const { counters } = await caller.key(`user:${subject.user}`);
      expect(counters[0]?.events.map(({ at: _, ...event }) => event)).toEqual([
        { id: ids[0], cost: 2, admitted_cost: 1 },
        { id: ids[1], cost: 1 },
        { id: ids[2], cost: 0, admitted_cost: 1 },
      ]);
    });

    test("frees what was given back, and denies after more than the limit was spent", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 5);
      expect((await caller.consume("chat", subject)).allowed).toBe(false);
      await settle({ policy: "chat", subject, id, cost: 0 });
      expect((await caller.consume("chat", subject, 5)).allowed).toBe(true);
      await settle({ policy: "chat", subject, id, cost: 1_000_000_000 });
      expect(await caller.consume("chat", subject)).toMatchObject({
        allowed: false,
        retry_after_seconds: expect.any(Number),
      });
    });

    test("a settled decision still replays, at the cost of its consume", async () => {
      const subject = newSubject();
      const key = newKey();
      await consume(key, { policy: "chat", subject, cost: 3 });
      for (const cost of [1, 0]) {
        await settle({ policy: "chat", subject, id: key, cost });
        const again = await json<DecisionBody>(await consume(key, { policy: "chat", subject, cost: 3 }));
        expect(again).toMatchObject({ allowed: true, replayed: true });
        expect(again.limits.map(({ used }) => used)).toEqual([cost, cost, cost]);
      }
    });

    test("answers 404 to an unknown decision, and changes nothing", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 2);
      for (const body of [
        { policy: "chat", subject, id: "nope", cost: 0 },
        { policy: "burst", subject, id, cost: 0 },
        { policy: "nope", subject, id, cost: 0 },
        { policy: "chat", subject: { ...subject, user: "another" }, id, cost: 0 },
        { policy: "chat", subject: { ip: subject.ip }, id, cost: 0 },
      ]) {
        const response = await settle(body);
        expect([response.status, response.headers.get("Content-Type")]).toEqual([404, "application/problem+json"]);
      }
      expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    });

    test.each([
      [{ cost: -1 }, ["/cost"]],
      [{ cost: 1_000_000_001 }, ["/cost"]],
      [{ cost: undefined }, ["/cost"]],
      [{ cost: 0.5, id: undefined }, ["/cost", "/id"]],
      [{ id: "no spaces" }, ["/id"]],
      [{ id: 5, more: 1, subject: { ip: "x" } }, ["/id", "/more", "/subject/ip", "/subject/user"].slice(0, 3)],
    ])("answers %j with a 400 that points at each mistake", async (change, pointers) => {
      const response = await settle({ policy: "chat", subject: newSubject(), id: "x", cost: 1, ...change });
      expect(response.status).toBe(400);
      expect((await json<ProblemBody>(response)).errors?.map(({ pointer }) => pointer).sort()).toEqual(pointers);
    });
  });

  const advance = target.advance?.bind(target);
  if (!advance) return;

  describe(`${name}: idempotency over time`, () => {
    test("every layer remembers a key for exactly the longest window of its policy", async () => {
      const subject = newSubject();
      const key = newKey();
      await consume(key, { policy: "chat", subject });
      await advance(3_599_999);
      expect(await json(await consume(key, { policy: "chat", subject }))).toMatchObject({ replayed: true });
      // It has left the address's minute, and does not count there again.
      expect(await caller.used("chat", subject)).toEqual([0, 1, 0]);
      await advance(1);
      expect(await json(await consume(key, { policy: "chat", subject }))).toMatchObject({
        allowed: true,
        replayed: false,
      });
      expect(await caller.used("chat", subject)).toEqual([1, 1, 1]);
    });

    test("a settled cost counts from the time of its consume", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 1);
      await advance(59_999);
      await settle({ policy: "chat", subject, id, cost: 5 });
      expect(await caller.consume("chat", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
      await advance(1);
      expect((await caller.consume("chat", subject, 5)).allowed).toBe(true);
    });

    test("a decision that has left the longest window can't be settled", async () => {
      const subject = newSubject();
      const { id } = await caller.consume("chat", subject, 1);
      await advance(3_600_000);
      expect((await settle({ policy: "chat", subject, id, cost: 5 })).status).toBe(404);
    });
  });
}
