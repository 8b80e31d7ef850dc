import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, type KeyBody, newSubject, type ProblemBody, type Target } from "./target";

type Cost = number | Readonly<Record<string, number>>;

/**
 * Costs by layer. The policy `llm`: requests by user, 3/minute; tokens by user, 1000/minute; budget by org, 2000/day. In the
 * policy `jobs` layers have concurrent limits, and in `trial` some layers are in shadow. The runs of one user share a key.
 */
export function costSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const newOrg = () => ({ user: newSubject().user, org: `o_${crypto.randomUUID()}` });
  const send = (path: string, subject: object, more: object, headers: Record<string, string> = {}) =>
    caller.post(path, { policy: "llm", subject, ...more }, headers);
  const consume = (subject: object, cost: Cost, headers: Record<string, string> = {}) =>
    send("/v1/consume", subject, { cost }, headers);
  const decide = async (subject: object, cost: Cost, headers: Record<string, string> = {}) =>
    json<DecisionBody>(await consume(subject, cost, headers));
  const settle = (subject: object, id: unknown, cost: Cost) => send("/v1/settle", subject, { id, cost });
  const usedIn = ({ limits }: Pick<DecisionBody, "limits">) => limits.map(({ layer, used }) => `${layer} ${used}`);
  const used = async (subject: object) => usedIn(await json<DecisionBody>(await send("/v1/check", subject, {})));
  const pointersOf = async (response: Response) => {
    const { status, errors = [] } = await json<ProblemBody>(response);
    expect(status).toBe(400);
    return errors.map(({ pointer }) => pointer);
  };

  describe(`${name}: a cost by layer`, () => {
    test("is decided over requests, tokens and a budget at once, all or nothing", async () => {
      const subject = newOrg();
      const first = await consume(subject, { tokens: 400, budget: 1_500 });
      expect([first.status, first.headers.get("RateLimit")]).toEqual([
        200,
        '"requests/60s";r=2;t=60, "tokens/60s";r=600;t=60, "budget/86400s";r=500;t=86400',
      ]);
      const { cost, ...body } = await json<DecisionBody>(first);
      // Its text too: every layer, in the policy's order.
      expect(JSON.stringify(cost)).toBe('{"requests":1,"tokens":400,"budget":1500}');
      expect(usedIn(body)).toEqual(["requests 1", "tokens 400", "budget 1500"]);

      const second = await consume(subject, { budget: 501, tokens: 600 });
      expect([second.status, second.headers.get("Retry-After")]).toEqual([429, "86400"]);
      expect(await json(second)).toMatchObject({
        allowed: false,
        cost: { requests: 1, tokens: 600, budget: 501 },
        retry_after_seconds: 86_400,
        "violated-policies": ["budget/86400s"],
      });
      expect(await used(subject)).toEqual(["requests 1", "tokens 400", "budget 1500"]);
      const third = await decide(subject, { requests: 2, tokens: 601, budget: 0 });
      expect([third.allowed, third.retry_after_seconds]).toEqual([false, 60]);
      expect(await decide(subject, { requests: 2, tokens: 600, budget: 500 })).toMatchObject({ allowed: true });
      expect(await used(subject)).toEqual(["requests 3", "tokens 1000", "budget 2000"]);
    });

    test("says how long this very cost must wait", async () => {
      if (!target.advance) return;
      const subject = newOrg();
      await decide(subject, { requests: 1, tokens: 700 });
      await target.advance(20_000);
      await decide(subject, { requests: 2, tokens: 100 });
      const waitOf = async (cost: Cost) =>
        (await json<DecisionBody>(await send("/v1/check", subject, { cost }))).retry_after_seconds;
      expect(await waitOf({ requests: 0, tokens: 200 })).toBeNull();
      expect(await waitOf({ requests: 0, tokens: 201 })).toBe(40);
      expect(await waitOf({ requests: 0, tokens: 901 })).toBe(60);
      expect(await waitOf({ requests: 2, tokens: 0 })).toBe(60);
      await target.advance(39_999);
      expect((await consume(subject, { requests: 0, tokens: 201 })).status).toBe(429);
      await target.advance(1);
      expect((await consume(subject, { requests: 0, tokens: 201 })).status).toBe(200);
    });

    test("an integer, and an object without names, weigh the same in every layer", async () => {
      const subject = newOrg();
      expect((await decide(subject, 2)).cost).toBe(2);
      expect((await decide(subject, {})).cost).toEqual({ requests: 1, tokens: 1, budget: 1 });
      expect(await used(subject)).toEqual(["requests 3", "tokens 3", "budget 3"]);
    });

    test("a layer at 0 decides nothing, and its event can be settled later", async () => {
      const subject = newOrg();
      await decide(subject, { requests: 3, tokens: 1_000 });
      const { allowed, id, limits } = await decide(subject, { requests: 0, tokens: 0, budget: 7 });
      expect([allowed, usedIn({ limits })]).toEqual([true, ["requests 3", "tokens 1000", "budget 8"]]);
      expect(usedIn(await json(await settle(subject, id, { tokens: 50 })))).toEqual([
        "requests 3",
        "tokens 1050",
        "budget 8",
      ]);
      const nothing = await decide(subject, { requests: 0, tokens: 0, budget: 0 });
      expect(nothing).toMatchObject({ allowed: true, cost: { requests: 0, tokens: 0, budget: 0 } });
      expect((await settle(subject, nothing.id, { requests: 1 })).status).toBe(200);
      expect(await used(subject)).toEqual(["requests 4", "tokens 1050", "budget 8"]);
    });

    test("a layer at 0 is not held to a ban of its key, any other layer is", async () => {
      const subject = newOrg();
      const ban = { kind: "ban", reason: "unpaid", expires_in_seconds: 600 };
      const path = `/v1/keys/${encodeURIComponent(`org:${subject.org}`)}/override`;
      const headers = { "Content-Type": "application/json" };
      const banned = await target.fetch(path, {
        method: "PUT",
        headers: { ...headers, Authorization: `Bearer ${target.adminToken}` },
        body: JSON.stringify(ban),
      });
      expect(banned.status).toBe(200);
      expect((await consume(subject, { budget: 1 })).status).toBe(429);
      const free = await decide(subject, { budget: 0 });
      expect([free.allowed, free.limits.map(({ override }) => override)]).toEqual([
        true,
        [undefined, undefined, "ban"],
      ]);
    });

    test("a key is charged once, at the same cost in every layer however it is spelt", async () => {
      const subject = newOrg();
      const once = { "Idempotency-Key": "once" };
      expect((await decide(subject, { tokens: 5 }, once)).replayed).toBe(false);
      expect(await decide(subject, { budget: 1, tokens: 5, requests: 1 }, once)).toMatchObject({ replayed: true });
      for (const other of [5, { tokens: 6 }, { tokens: 5, budget: 2 }, { tokens: 5, budget: 0 }, {}])
        expect((await consume(subject, other, once)).status).toBe(422);
      expect(await used(subject)).toEqual(["requests 1", "tokens 5", "budget 1"]);

      const twice = { "Idempotency-Key": "twice" };
      await decide(subject, 2, twice);
      expect(await decide(subject, { requests: 2, tokens: 2, budget: 2 }, twice)).toMatchObject({ replayed: true });
      expect((await consume(subject, { requests: 2, tokens: 2, budget: 3 }, twice)).status).toBe(422);
    });

    test("a settle changes the layers that it names", async () => {
      const subject = newOrg();
      const { id } = await decide(subject, { tokens: 400, budget: 90 });
      const settled = await json<DecisionBody>(await settle(subject, id, { budget: 1_200, tokens: 0 }));
      expect(JSON.stringify(settled.cost)).toBe('{"tokens":0,"budget":1200}');
      expect(usedIn(settled)).toEqual(["requests 1", "tokens 0", "budget 1200"]);
      const unchanged = await json<DecisionBody>(await settle(subject, id, {}));
      expect([unchanged.cost, usedIn(unchanged)]).toEqual([{}, usedIn(settled)]);
      // A replay goes by the cost at admission.
      expect(await decide(subject, { tokens: 400, budget: 90 }, { "Idempotency-Key": String(id) })).toMatchObject({
        replayed: true,
      });
      const whole = await json<DecisionBody>(await settle(subject, id, 0));
      expect([whole.cost, usedIn(whole)]).toEqual([0, ["requests 0", "tokens 0", "budget 0"]]);
    });

    test("every mistake is a 400 with a pointer", async () => {
      const subject = newOrg();
      const wrong = { tokens: -1, requests: 1.5, budget: 1e12, token: 1, constructor: "x", __proto__: null };
      for (const path of ["/v1/consume", "/v1/check", "/v1/settle"]) {
        const id = path === "/v1/settle" ? { id: "i" } : {};
        const pointers = await pointersOf(await send(path, { user: "u" }, { ...id, cost: wrong }));
        expect([...pointers].sort()).toEqual([
          "/cost/budget",
          "/cost/constructor",
          "/cost/requests",
          "/cost/token",
          "/cost/tokens",
          "/subject/org",
        ]);
        const hidden = `{"policy":"llm","subject":${JSON.stringify(subject)},"id":"i","cost":{"__proto__":1}}`;
        const body = path === "/v1/settle" ? hidden : hidden.replace('"id":"i",', "");
        expect(await pointersOf(await caller.post(path, body))).toEqual(["/cost/__proto__"]);
        for (const cost of [null, [], [1], "1", true, { tokens: null }, { tokens: "1" }, { tokens: [1] }])
          expect(await pointersOf(await send(path, subject, { ...id, cost }))).toHaveLength(1);
      }
      expect(await used(subject)).toEqual(["requests 0", "tokens 0", "budget 0"]);
    });

    test("a cost above a limit of its layer is a 422 that names the layer", async () => {
      const subject = newOrg();
      expect((await consume(subject, { requests: 3, tokens: 1_000, budget: 2_000 })).status).toBe(200);
      const response = await consume(newOrg(), { requests: 4, tokens: 1_001, budget: 2_000 });
      const { status, detail } = await json<ProblemBody>(response);
      expect([status, response.headers.has("Retry-After")]).toEqual([422, false]);
      expect([detail.includes('"requests"'), detail.includes('"tokens"'), detail.includes('"budget"')]).toEqual([
        true,
        true,
        false,
      ]);
    });

    test("is decided in a batch as alone, with a settle and a replay of it", async () => {
      const subject = newOrg();
      const about = { policy: "llm", subject };
      const { results } = await json<{ results: { status: number; body: DecisionBody }[] }>(
        await caller.post("/v1/batch", {
          requests: [
            { op: "consume", idempotency_key: "a", ...about, cost: { tokens: 600 } },
            { op: "consume", ...about, cost: { tokens: 401 } },
            { op: "consume", ...about, cost: { nope: 1 } },
            { op: "check", ...about, cost: { tokens: 400 } },
            { op: "settle", id: "a", ...about, cost: { tokens: 300 } },
          ],
        }),
      );
      expect(results.map(({ status }) => status)).toEqual([200, 429, 400, 200, 200]);
      expect(results[3]?.body.allowed).toBe(true);
      // The budget may still count the denied consume, whose charge there is being rolled back.
      expect(usedIn(results[4]?.body as DecisionBody).slice(0, 2)).toEqual(["requests 1", "tokens 300"]);
      expect(await used(subject)).toEqual(["requests 1", "tokens 300", "budget 1"]);
    });

    test("holds for layers in shadow, which a cost above their limit does not refuse", async () => {
      const subject = { ...newSubject(), org: `o_${crypto.randomUUID()}` };
      const decision = async (cost: Cost) =>
        json<DecisionBody>(await caller.post("/v1/consume", { policy: "trial", subject, cost }));
      const first = await decision({ ip: 0, caller: 2, org: 1 });
      expect([first.would_deny, usedIn(first)]).toEqual([false, ["ip 0", "caller 2", "org 1"]]);
      const second = await decision({ ip: 3, caller: 0, org: 2 });
      expect([second.allowed, second.would_deny, usedIn(second)]).toEqual([true, true, ["ip 0", "caller 2", "org 1"]]);
      const third = await decision({ ip: 4, org: 0 });
      expect([third.allowed, third.would_deny]).toEqual([true, true]);
    });

    test("another cost in a layer in shadow is no conflict: the id is replayed, and nothing is charged", async () => {
      const subject = { ...newSubject(), org: `o_${crypto.randomUUID()}` };
      const status = async (cost: Cost) => {
        const body = { policy: "trial", subject, cost };
        const response = await caller.post("/v1/consume", body, { "Idempotency-Key": "turn-1" });
        const decision = await json<DecisionBody>(response);
        return [response.status, decision.replayed, decision.limits && usedIn(decision)];
      };
      const used = ["ip 1", "caller 2", "org 1"];
      expect(await status({ caller: 2 })).toEqual([200, false, used]);
      expect(await status({ caller: 2, ip: 2, org: 0 })).toEqual([200, true, used]);
      expect(await status({ caller: 1 })).toEqual([422, undefined, undefined]);
    });

    test("a layer at 0 takes no place in a concurrent limit, and settling it takes none either", async () => {
      const subject = newSubject();
      const decision = async (cost: Cost) =>
        json<DecisionBody>(await caller.post("/v1/consume", { policy: "jobs", subject, cost }));
      for (let i = 0; i < 2; i++) await decision({ caller: 2 });
      expect((await decision({ ip: 0 })).allowed).toBe(false);
      const free = await decision({ caller: 0, ip: 1 });
      expect([free.allowed, usedIn(free)]).toEqual([true, ["caller 2", "caller 4", "ip 3"]]);
      const body = { policy: "jobs", subject, id: free.id, cost: { caller: 3 } };
      const settled = await json<DecisionBody>(await caller.post("/v1/settle", body));
      expect(usedIn(settled)).toEqual(["caller 2", "caller 7", "ip 3"]);
    });

    test("holds for inline limits", async () => {
      const key = `llm/${crypto.randomUUID()}`;
      const layers = [
        { name: "requests", key, limits: ["3/minute"] },
        { name: "tokens", key, limits: ["1000/minute"] },
      ];
      const post = (call: string, more: object, headers: Record<string, string> = {}) =>
        caller.post(`/v1/inline/${call}`, { layers, ...more }, headers);
      const cost = { tokens: 900 };
      const first = await json<DecisionBody>(await post("consume", { cost }, { "Idempotency-Key": "k" }));
      expect([first.cost, usedIn(first)]).toEqual([{ requests: 1, tokens: 900 }, ["requests 1", "tokens 900"]]);
      expect((await post("consume", { cost: { tokens: 101 } })).status).toBe(429);
      expect((await post("consume", { cost: { tokens: 901 } }, { "Idempotency-Key": "k" })).status).toBe(422);
      expect((await post("consume", { cost: 1 }, { "Idempotency-Key": "k" })).status).toBe(422);
      expect(await json(await post("consume", { cost }, { "Idempotency-Key": "k" }))).toMatchObject({ replayed: true });
      expect((await post("consume", { cost: { tokens: 1_001 } })).status).toBe(422);
      const settled = await json<DecisionBody>(await post("settle", { id: "k", cost: { tokens: 100 } }));
      expect([settled.cost, usedIn(settled)]).toEqual([{ tokens: 100 }, ["requests 1", "tokens 100"]]);
      for (const call of ["consume", "check"])
        expect(await pointersOf(await post(call, { cost: { token: 1, tokens: -1 } }))).toEqual([
          "/cost/tokens",
          "/cost/token",
        ]);
    });

    test("is shown by layer among a key's events and denials", async () => {
      const subject = newOrg();
      const { id } = await decide(subject, { tokens: 400 });
      await settle(subject, id, { tokens: 300 });
      await consume(subject, { tokens: 900, requests: 2, budget: 5 });
      const { counters, denials } = await json<KeyBody & { denials: { cost: Cost }[] }>(
        await caller.admin(`/v1/keys/${encodeURIComponent(`user:${subject.user}`)}?denials=10`),
      );
      const events = counters.filter(({ policy }) => policy === "llm").map(({ layer, events }) => [layer, events]);
      const event = { id, at: expect.any(String) };
      expect(events).toEqual([
        ["requests", [{ ...event, cost: 1 }]],
        ["tokens", [{ ...event, cost: 300, admitted_cost: 400 }]],
      ]);
      expect(denials.map(({ cost }) => cost)).toEqual([{ requests: 2, tokens: 900 }]);
    });
  });
}
