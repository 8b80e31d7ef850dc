import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

/**
 * Layers that count and deny nothing. Policies: `trial` (ip in shadow: 3/minute; caller by user, live: 5/minute; org in
 * shadow: 2/minute) and `rehearsal`, all in shadow (caller by user else ip: 5/minute, 6/hour; ip: 7/minute).
 */
export function shadowSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const org = () => `o_${crypto.randomUUID()}`;
  const usedIn = ({ limits }: DecisionBody) => limits.map(({ layer, used }) => `${layer} ${used}`);
  const send = (policy: string, subject: object, more: object = {}, headers: Record<string, string> = {}) =>
    caller.post("/v1/consume", { policy, subject, ...more }, headers);

  describe(`${name}: layers in shadow`, () => {
    test("admit what they would deny, say so, and count as if they had denied it", async () => {
      const subject = newSubject();
      const decisions: unknown[] = [];
      for (let i = 0; i < 5; i++) {
        const { allowed, would_deny, retry_after_seconds, ...rest } = await caller.consume("trial", subject);
        decisions.push([
          allowed,
          would_deny,
          retry_after_seconds,
          ...usedIn({ ...rest, allowed, retry_after_seconds }),
        ]);
      }
      expect(decisions).toEqual([
        [true, false, null, "ip 1", "caller 1"],
        [true, false, null, "ip 2", "caller 2"],
        [true, false, null, "ip 3", "caller 3"],
        [true, true, null, "ip 3", "caller 4"],
        [true, true, null, "ip 3", "caller 5"],
      ]);
    });

    test("are all or nothing among themselves", async () => {
      const team = org();
      const consume = () => caller.consume("trial", { ...newSubject(), org: team });
      await consume();
      expect(usedIn(await consume())).toEqual(["ip 1", "caller 1", "org 2"]);
      const third = await consume();
      expect([third.allowed, third.would_deny, usedIn(third)]).toEqual([true, true, ["ip 0", "caller 1", "org 2"]]);
    });

    test("are marked in the body, and left out of the headers", async () => {
      const subject = newSubject();
      const response = await send("trial", subject, { cost: 2 });
      expect(response.headers.get("RateLimit-Policy")).toBe('"caller/60s";q=5;w=60');
      expect(response.headers.get("RateLimit")).toBe('"caller/60s";r=3;t=60');
      const limit = (layer: string, key: string, limit: number) => {
        return { layer, key, limit, window_seconds: 60, used: 2, remaining: limit - 2, reset_seconds: 60 };
      };
      expect(await json(response)).toEqual({
        allowed: true,
        id: expect.any(String),
        policy: "trial",
        cost: 2,
        replayed: false,
        degraded: false,
        retry_after_seconds: null,
        shadow: true,
        would_deny: false,
        limits: [{ ...limit("ip", `ip:${subject.ip}`, 3), shadow: true }, limit("caller", `user:${subject.user}`, 5)],
      });
    });

    test("are no reason for a denial, do not count it, and say what they would have done", async () => {
      const subject = newSubject();
      await caller.consume("trial", subject, 3);
      await target.advance?.(10_000);
      await caller.consume("trial", { ...newSubject(), user: subject.user }, 2);
      const response = await send("trial", subject, { cost: 3 }, { "Idempotency-Key": "one" });
      const wait = Number(response.headers.get("Retry-After"));
      expect([response.status, response.headers.get("RateLimit-Policy")]).toEqual([429, '"caller/60s";q=5;w=60']);
      const body = await json<DecisionBody & { "violated-policies": string[] }>(response);
      expect(body).toMatchObject({
        allowed: false,
        would_deny: true,
        retry_after_seconds: wait,
        "violated-policies": ["caller/60s"],
      });
      if (target.advance) expect(wait).toBe(50);
      expect(usedIn(body)).toEqual(["ip 3", "caller 5"]);
      const free = await json<DecisionBody>(
        await send("trial", { ...subject, ip: newSubject().ip }, {}, { "Idempotency-Key": "two" }),
      );
      expect([free.allowed, free.would_deny, usedIn(free)]).toEqual([false, false, ["ip 0", "caller 5"]]);
    });

    test("of a policy without live layers never deny, and send no headers", async () => {
      const subject = newSubject();
      for (const [cost, wouldDeny, used] of [
        [5, false, ["caller 5", "caller 5", "ip 5"]],
        [1, true, ["caller 5", "caller 5", "ip 5"]],
        [6, true, []],
        [10_000_000, true, []],
      ] as const) {
        const response = await send("rehearsal", subject, { cost });
        expect([response.status, response.headers.has("RateLimit"), response.headers.has("RateLimit-Policy")]).toEqual([
          200,
          false,
          false,
        ]);
        const body = await json<DecisionBody>(response);
        expect([body.allowed, body.shadow, body.would_deny, usedIn(body)]).toEqual([true, true, wouldDeny, used]);
        expect(body.limits.every(({ shadow }) => shadow)).toBe(true);
      }
    });

    test("record nothing for a check", async () => {
      const subject = newSubject();
      expect(await caller.check("trial", subject, 3)).toMatchObject({ allowed: true, shadow: true, would_deny: false });
      await caller.consume("trial", subject);
      expect(await caller.check("trial", subject, 3)).toMatchObject({ allowed: true, would_deny: true });
      expect(await caller.check("trial", subject, 5)).toMatchObject({ allowed: false, would_deny: true });
      expect(await caller.used("trial", subject)).toEqual([1, 1]);
    });

    test("would deny a cost above their limit, which is no 422", async () => {
      const subject = newSubject();
      const body = await caller.consume("trial", subject, 4);
      expect([body.allowed, body.would_deny, usedIn(body)]).toEqual([true, true, ["caller 4"]]);
      expect((await send("trial", subject, { cost: 6 })).status).toBe(422);
      expect(await caller.used("trial", subject)).toEqual([0, 4]);
    });

    test("charge a key once, even if they would have denied it at first", async () => {
      const subject = newSubject();
      const once = async (policy: string, cost: number, key: string) =>
        json<DecisionBody>(await send(policy, subject, { cost }, { "Idempotency-Key": key }));
      for (const replayed of [false, true])
        expect(await once("trial", 2, "k")).toMatchObject({ replayed, would_deny: false, limits: [{ used: 2 }, {}] });
      expect(await once("trial", 2, "l")).toMatchObject({
        replayed: false,
        would_deny: true,
        limits: [{ used: 2 }, {}],
      });
      await caller.post("/v1/settle", { policy: "trial", subject, id: "k", cost: 1 });
      expect(await once("trial", 2, "l")).toMatchObject({ replayed: true, would_deny: false });
      expect(await caller.used("trial", subject)).toEqual([3, 3]);
      for (const replayed of [false, true])
        expect(await once("rehearsal", 2, "m")).toMatchObject({ replayed, would_deny: false });
      const other = await once("rehearsal", 3, "m");
      expect([other.allowed, other.replayed, other.would_deny, usedIn(other)]).toEqual([
        true,
        false,
        false,
        ["caller 2", "caller 2", "ip 2"],
      ]);
    });

    test("are settled with the live layers, or alone if there are none", async () => {
      const subject = newSubject();
      const settle = (policy: string, id: unknown, cost: number) =>
        caller.post("/v1/settle", { policy, subject, id, cost });
      const { id } = await caller.consume("trial", subject, 2);
      const settled = await settle("trial", id, 4);
      expect([settled.headers.get("RateLimit"), await json(settled)]).toMatchObject([
        '"caller/60s";r=1;t=60',
        {
          cost: 4,
          limits: [
            { layer: "ip", used: 4, shadow: true },
            { layer: "caller", used: 4 },
          ],
        },
      ]);
      const alone = await caller.consume("rehearsal", subject, 2);
      const rehearsed = await settle("rehearsal", alone.id, 0);
      expect([rehearsed.status, rehearsed.headers.has("RateLimit")]).toEqual([200, false]);
      expect(await caller.used("rehearsal", subject)).toEqual([0, 0, 0]);
      for (const policy of ["trial", "rehearsal"]) expect((await settle(policy, "unknown", 1)).status).toBe(404);
    });

    test("are left out if the subject has none of their attributes, but an invalid attribute is reported", async () => {
      const { user, ip } = newSubject();
      const body = await caller.consume("trial", { user });
      expect([body.allowed, body.shadow, body.would_deny, usedIn(body)]).toEqual([true, true, false, ["caller 1"]]);
      expect(usedIn(await caller.consume("trial", { user, ip, org: " " }))).toEqual(["ip 1", "caller 2"]);
      expect((await send("rehearsal", {})).status).toBe(200);
      const wrong = await send("trial", { user, ip: "nowhere", org: "\u0000" });
      expect([wrong.status, (await json<ProblemBody>(wrong)).errors?.map(({ pointer }) => pointer)]).toEqual([
        400,
        ["/subject/ip", "/subject/org"],
      ]);
      expect((await send("trial", { ip })).status).toBe(400);
    });

    test("decide a batch in order, each call like the single call", async () => {
      for (const policy of ["trial", "rehearsal"]) {
        const subject = newSubject();
        const consume = { op: "consume", policy, subject };
        const requests = [
          { ...consume, idempotency_key: "one", cost: 3 },
          { op: "check", policy, subject },
          { op: "settle", policy, subject, id: "one", cost: 1 },
          { op: "check", policy, subject },
          { ...consume, cost: 2 },
          { op: "check", policy, subject, cost: 3 },
        ];
        const { results } = await json<{ results: { body: DecisionBody }[] }>(
          await caller.post("/v1/batch", { requests }),
        );
        const inShadow = results.map(({ body }) => {
          const { limits, would_deny } = body;
          return [would_deny, limits.find(({ shadow }) => shadow)?.used];
        });
        const isFull = policy === "trial";
        expect([policy, inShadow]).toEqual([
          policy,
          [
            [false, 3],
            [isFull, 3],
            [undefined, 1],
            [false, 1],
            [false, 3],
            [true, 3],
          ],
        ]);
      }
    });

    test("are listed with the policies and with the counters of a key", async () => {
      const subject = newSubject();
      await caller.consume("trial", subject);
      const { policies } = await json<{ policies: { name: string; layers: { name: string; mode: string }[] }[] }>(
        await caller.admin("/v1/policies"),
      );
      const modesOf = (policy: string) => policies.find(({ name }) => name === policy)?.layers.map(({ mode }) => mode);
      expect([modesOf("chat"), modesOf("trial"), modesOf("rehearsal")]).toEqual([
        ["live", "live"],
        ["shadow", "live", "shadow"],
        ["shadow", "shadow"],
      ]);
      expect((await caller.key(`ip:${subject.ip}`)).counters).toMatchObject([
        { policy: "trial", layer: "ip", limits: [{ limit: 3, used: 1 }], events_total: 1, events: [{ cost: 1 }] },
      ]);
    });
  });
}
