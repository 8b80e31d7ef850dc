import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, type ProblemBody, type Target } from "./target";

/** Inline limits, switched on. */
export function inlineSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const newKey = () => `login/${crypto.randomUUID()}`;
  const layer = (key: string, ...limits: string[]) => ({ name: "login", key, limits });
  const consume = (layers: unknown, more: object = {}, headers: Record<string, string> = {}) =>
    caller.post("/v1/inline/consume", { layers, ...more }, headers);
  const check = async (layers: unknown) => json<DecisionBody>(await caller.post("/v1/inline/check", { layers }));

  describe(`${name}: inline limits`, () => {
    test("are decided like limits of a policy, with the same headers and body", async () => {
      const key = newKey();
      const layers = [layer(key, "2/minute", "3 per 2 hours")];
      const first = await consume(layers, { cost: 2 });
      expect([first.status, first.headers.get("RateLimit-Policy"), first.headers.get("RateLimit")]).toEqual([
        200,
        '"login/60s";q=2;w=60, "login/7200s";q=3;w=7200',
        '"login/60s";r=0;t=60, "login/7200s";r=1;t=7200',
      ]);
      expect(await json(first)).toMatchObject({
        allowed: true,
        policy: "inline",
        cost: 2,
        limits: [{ layer: "login", key: `inline/${key}`, limit: 2, window_seconds: 60, used: 2, remaining: 0 }, {}],
      });
      const second = await consume(layers);
      expect([second.status, Number(second.headers.get("Retry-After")) > 0]).toEqual([429, true]);
      expect(await json(second)).toMatchObject({ allowed: false, "violated-policies": ["login/60s"] });
    });

    test("go up to 1,000,000,000 a month, which holds to the unit", async () => {
      const layers = [layer(newKey(), "1000000000/month", "1000000000 per 4 weeks")];
      const statuses = [];
      for (const cost of [1_000_000_001, 999_999_998, 3, 2]) statuses.push((await consume(layers, { cost })).status);
      expect(statuses).toEqual([422, 200, 429, 200]);
      const denied = await consume(layers, { cost: 1_000_000_000 });
      expect([denied.status, denied.headers.get("RateLimit-Policy"), denied.headers.get("RateLimit")]).toEqual([
        429,
        '"login/2592000s";q=1000000000;w=2592000, "login/2419200s";q=1000000000;w=2419200',
        expect.stringMatching(/^"login\/2592000s";r=0;t=2\d+, "login\/2419200s";r=0;t=2\d+$/),
      ]);
      expect((await json<DecisionBody>(denied)).limits.map(({ used }) => used)).toEqual([1e9, 1e9]);
    });

    test("say to the millisecond when some of the limit comes back", async () => {
      const layers = [layer(newKey(), "2/minute")];
      const freesInMs = async () =>
        (
          await json<{ limits: { frees_in_ms: number }[] }>(await caller.post("/v1/inline/check", { layers }))
        ).limits.map(({ frees_in_ms }) => frees_in_ms);
      expect(await freesInMs()).toEqual([0]);
      await consume(layers);
      await target.advance?.(1_234);
      const [ms = 0] = await freesInMs();
      if (target.advance) expect(ms).toBe(58_766);
      else expect([ms > 0, ms <= 60_000]).toEqual([true, true]);
    });

    test("are all or nothing over their layers", async () => {
      const [user, address] = [newKey(), newKey()];
      const both = [layer(user, "5/minute"), { ...layer(address, "1/minute"), name: "address" }];
      expect((await consume(both)).status).toBe(200);
      expect((await consume(both)).status).toBe(429);
      expect((await check(both)).limits.map(({ used }) => used)).toEqual([1, 1]);
    });

    test("are charged once for an idempotency key, and settled by it", async () => {
      const layers = [layer(newKey(), "5/minute")];
      const send = async () => json<DecisionBody>(await consume(layers, { cost: 3 }, { "Idempotency-Key": "once" }));
      expect([(await send()).replayed, (await send()).replayed]).toEqual([false, true]);
      expect((await check(layers)).limits[0]?.used).toBe(3);
      const settled = await caller.post("/v1/inline/settle", { layers, id: "once", cost: 1 });
      expect([settled.status, (await json<DecisionBody>(settled)).limits[0]?.used]).toEqual([200, 1]);
      const unknown = await caller.post("/v1/inline/settle", { layers, id: "twice", cost: 1 });
      expect(unknown.status).toBe(404);
    });

    test("another layer with the same key makes another decision, even for the same idempotency key", async () => {
      const key = newKey();
      const mail = [{ ...layer(key, "1/minute"), name: "mail" }];
      expect((await consume(mail)).status).toBe(200);
      const once = { "Idempotency-Key": "request-1" };
      expect((await consume([layer(key, "5/minute")], {}, once)).status).toBe(200);
      expect((await consume(mail, {}, once)).status).toBe(429);
      const settled = await caller.post("/v1/inline/settle", { layers: mail, id: "request-1", cost: 0 });
      expect(settled.status).toBe(404);
    });

    test("forget a key, and share no key with a policy", async () => {
      const key = `user:${crypto.randomUUID()}`;
      const layers = [layer(key, "1/minute")];
      expect((await consume(layers)).status).toBe(200);
      const subject = { user: key.slice("user:".length), ip: "203.0.113.200" };
      expect((await caller.used("chat", subject)).slice(0, 2)).toEqual([0, 0]);
      await caller.admin(`/v1/keys/${encodeURIComponent(key)}`, { method: "DELETE" });
      expect((await consume(layers)).status).toBe(429);
      const forget = () => caller.admin(`/v1/inline/keys/${encodeURIComponent(key)}`, { method: "DELETE" });
      expect([(await forget()).status, (await forget()).status]).toEqual([204, 204]);
      expect((await consume(layers)).status).toBe(200);
    });

    test.each([
      ["no layers", [], ["/layers"]],
      ["an unknown unit", [layer("k", "1/decade")], ["/layers/0/limits/0"]],
      [
        "a window above 31 days",
        [layer("k", "1 per 32 days", "1 per 5 weeks", "1/year")],
        [0, 1, 2].map((l) => `/layers/0/limits/${l}`),
      ],
      ["a limit above 1,000,000,000", [layer("k", "1000000001/day")], ["/layers/0/limits/0"]],
      ["two limits with one window", [layer("k", "1/minute", "2/minute")], ["/layers/0/limits"]],
      ["two limits that are none", [layer("k", "much", "more")], ["/layers/0/limits/0", "/layers/0/limits/1"]],
      ["two layers of one name", [layer("k", "1/minute"), layer("l", "1/minute")], ["/layers"]],
      ["a blank key", [layer(" ", "1/minute")], ["/layers/0/key"]],
      ["a key of 257 bytes", [layer("k".repeat(257), "1/minute")], ["/layers/0/key"]],
      ["a key with a control character", [layer("a\nb", "1/minute")], ["/layers/0/key"]],
      ["an unknown field", [{ ...layer("k", "1/minute"), by: ["ip"] }], ["/layers/0/by"]],
      ["nine layers", Array.from({ length: 9 }, (_, i) => ({ ...layer("k", "1/day"), name: `l${i}` })), ["/layers"]],
    ])("refuse %s, with a pointer to each mistake", async (_, layers, pointers) => {
      for (const call of ["consume", "check"]) {
        const response = await caller.post(`/v1/inline/${call}`, { layers });
        const { errors } = await json<ProblemBody>(response);
        expect([response.status, errors?.map(({ pointer }) => pointer)]).toEqual([400, pointers]);
      }
    });

    test("take a key of 256 bytes, and refuse a cost that can never fit", async () => {
      const key = crypto.randomUUID().padEnd(256, "k");
      expect((await consume([layer(key, "5/minute")], { cost: 5 })).status).toBe(200);
      expect((await consume([layer(key, "5/minute")], { cost: 6 })).status).toBe(422);
    });
  });
}
