import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { realTiming } from "../../src/objects/timing";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody } from "../behaviour/target";
import { workerTarget } from "./target";
import { type Call, methodOf, methods, type Named, real, watched } from "./watched";

let errors: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => errors.mockRestore());

const byUser = { name: "caller", by: ["user"], limits: ["5/minute"] };

describe("object calls", () => {
  test("with an object a key, an anonymous caller costs one call and a signed-in caller two, for consumes and checks", async () => {
    const { caller, calls } = watched("key");
    const { user, ip } = newSubject();
    await caller.consume("chat", { ip });
    expect(methods(calls.splice(0))).toEqual(["consume"]);
    await caller.consume("chat", { user, ip });
    expect(calls.splice(0)).toEqual([
      { object: `user:${user}`, method: "consume" },
      { object: `ip:${ip}`, method: "consume" },
    ]);
    await caller.check("chat", { user, ip });
    expect(methods(calls.splice(0))).toEqual(["check", "check"]);
  });

  test("with an object a key, a denial costs a rollback for each object that had admitted", async () => {
    const { caller, calls } = watched("key");
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    calls.length = 0;
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect(calls).toEqual([
      { object: `user:${subject.user}`, method: "consume" },
      { object: `ip:${subject.ip}`, method: "consume" },
      { object: `ip:${subject.ip}`, method: "rollBack" },
    ]);
  });

  test("with one shard, a decision is one call, even a denial", async () => {
    const { caller, calls } = watched("shards:1");
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    await caller.check("chat", subject);
    expect(calls).toEqual(["consume", "consume", "check"].map((method) => ({ object: "shard:0", method })));
  });

  test("a refused request makes no call", async () => {
    const { caller, calls } = watched("key");
    await caller.post("/v1/consume", { policy: "chat", subject: { user: "u" } });
    await caller.post("/v1/consume", { policy: "chat", subject: newSubject(), cost: 6 });
    await caller.admin("/v1/keys/nokey");
    expect(calls).toEqual([]);
  });

  test("objects are created near the backend if a location hint is set", async () => {
    const hinted = watched("key", () => "none", { LIMITER_LOCATION_HINT: "weur" });
    await hinted.caller.consume("chat", newSubject());
    expect(hinted.options).toEqual([{ locationHint: "weur" }, { locationHint: "weur" }]);
    const unhinted = watched("key");
    await unhinted.caller.consume("chat", newSubject());
    expect(unhinted.options).toEqual([{}, {}]);
  });
});

describe("a batch", () => {
  const consume = (subject: object, more: object = {}) => ({ op: "consume", policy: "chat", subject, ...more });
  const statuses = async (caller: Caller, requests: unknown[]) =>
    (await json<{ results: { status: number }[] }>(await caller.post("/v1/batch", { requests }))).results.map(
      ({ status }) => status,
    );

  test("is one call to each object, and one more to each object that must roll back", async () => {
    const { caller, calls } = watched("key");
    const { ip } = newSubject();
    const [full, other] = [newSubject().user, newSubject().user];
    await caller.consume("chat", { user: full, ip }, 5);
    calls.length = 0;
    const requests = [
      ...Array.from({ length: 9 }, () => consume({ user: full, ip })),
      consume({ user: other, ip }),
      { op: "check", policy: "chat", subject: { user: other, ip } },
    ];
    expect(await statuses(caller, requests)).toEqual([...Array.from({ length: 9 }, () => 429), 200, 200]);
    expect(methods(calls)).toEqual(["decide", "decide", "decide", "decide"]);
    expect(calls.map(({ object }) => object).sort()).toEqual(
      [`ip:${ip}`, `ip:${ip}`, `user:${full}`, `user:${other}`].sort(),
    );
    expect(await caller.used("chat", { user: other, ip })).toEqual([1, 1, 6]);
  });

  test("of releases calls each object once, and changes each event once", async () => {
    const { caller, calls } = watched("key");
    const { ip } = newSubject();
    const subjects = Array.from({ length: 3 }, () => ({ user: newSubject().user, ip }));
    const ids = await Promise.all(subjects.map(async (subject) => (await caller.consume("jobs", subject)).id));
    calls.length = 0;
    const requests = subjects.map((subject, i) => ({ op: "release", policy: "jobs", subject, id: ids[i] }));
    expect(await statuses(caller, [...requests, ...requests])).toEqual(Array.from({ length: 6 }, () => 200));
    expect(methods(calls)).toEqual(["decide", "decide", "decide", "decide"]);
    for (const subject of subjects) expect(await caller.used("jobs", subject)).toEqual([0, 1, 0]);
  });

  test("in one shard is one call, even with denials", async () => {
    const { caller, calls } = watched("shards:1");
    const subject = newSubject();
    const requests = Array.from({ length: 100 }, () => consume(subject));
    expect((await statuses(caller, requests)).filter((status) => status === 200)).toHaveLength(5);
    expect(calls).toEqual([{ object: "shard:0", method: "decide" }]);
  });

  test("whose answer is lost is retried, and charges nothing twice", async () => {
    const { caller, calls } = watched("shards:1", (_, nth) => (nth === 1 ? "retryableAnswer" : "none"));
    const subjects = [newSubject(), newSubject()];
    expect(
      await statuses(
        caller,
        subjects.map((subject) => consume(subject)),
      ),
    ).toEqual([200, 200]);
    // Each decision retries after a back-off of its own.
    expect(calls.length).toBeLessThanOrEqual(3);
    for (const subject of subjects) expect(await caller.used("chat", subject)).toEqual([1, 1, 1]);
  });

  test("is decided except for the requests of an unreachable object, whose other charges are rolled back", async () => {
    const [unreachable, other] = [newSubject(), newSubject()];
    const { caller } = watched("key", ({ object }) => (object === `user:${unreachable.user}` ? "hangs" : "none"), {
      RATE_LIMIT_DEADLINE_MS: "500",
    });
    expect(await statuses(caller, [consume(unreachable), consume(other), consume({ ip: unreachable.ip })])).toEqual([
      503, 200, 200,
    ]);
    expect((await caller.key(`ip:${unreachable.ip}`)).counters.map(({ events_total }) => events_total)).toEqual([1, 1]);
  });
});

describe("a flood", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2040, 0, 1) }));
  afterEach(() => void vi.useRealTimers());

  /** A subject that has used up its limit a minute, and was denied just now. */
  async function flooding(placement: string, variables: Record<string, unknown> = {}) {
    const { caller, calls } = watched(placement, () => "none", variables);
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    const consume = (more: object = {}, headers: Record<string, string> = {}) =>
      caller.post("/v1/consume", { policy: "chat", subject, ...more }, headers);
    expect((await consume()).status).toBe(429);
    calls.length = 0;
    return { caller, calls, subject, consume };
  }

  test.each(["key", "shards:1"])(
    "is answered without a call for 1 second, with a wait that counts down: %s",
    async (placement) => {
      const { calls, consume } = await flooding(placement);
      const waits: (string | null)[] = [];
      for (const ms of [0, 1, 499, 499]) {
        vi.setSystemTime(Date.now() + ms);
        const response = await consume();
        expect(response.status).toBe(429);
        waits.push(response.headers.get("Retry-After"));
        expect(await json<DecisionBody>(response)).toMatchObject({ allowed: false, limits: [{ used: 5 }, {}, {}] });
      }
      expect([waits, calls]).toEqual([["60", "60", "60", "60"], []]);
      vi.setSystemTime(Date.now() + 1);
      expect((await consume()).headers.get("Retry-After")).toBe("59");
      // A check revalidates the denial: one call an object, and nothing to roll back.
      expect(methods(calls)).toEqual(calls.map(() => "check"));
    },
  );

  test("is admitted at the instant that its denial named, however long denials are cached", async () => {
    const { consume } = await flooding("key", { RATE_LIMIT_DENY_CACHE_MS: "60000" });
    vi.setSystemTime(Date.now() + 59_999);
    expect((await consume()).headers.get("Retry-After")).toBe("1");
    vi.setSystemTime(Date.now() + 1);
    expect((await consume()).status).toBe(200);
  });

  test("of a higher cost is checked once and writes nothing; a lower cost is decided", async () => {
    const { caller, calls } = watched("shards:1");
    const subject = newSubject();
    await caller.consume("chat", subject, 3);
    const status = async (cost: number) => (await caller.post("/v1/consume", { policy: "chat", subject, cost })).status;
    expect(await status(3)).toBe(429);
    calls.length = 0;
    expect([await status(4), await status(4), await status(3), await status(2)]).toEqual([429, 429, 429, 200]);
    expect(methods(calls)).toEqual(["check", "consume"]);
  });

  test("with idempotency keys asks the objects, unless a key is new", async () => {
    const { calls, consume } = await flooding("shards:1");
    const key = { "Idempotency-Key": "k" };
    await consume({}, key);
    await consume({}, { ...key, "Idempotency-Attempt": "2" });
    expect(methods(calls.splice(0))).toEqual(["consume", "consume"]);
    expect((await consume({}, { ...key, "Idempotency-Attempt": "1" })).status).toBe(429);
    expect(calls).toEqual([]);
  });

  test("does not hide that an idempotency key was admitted before", async () => {
    const { caller, calls } = watched("key");
    const subject = newSubject();
    const once = () => caller.post("/v1/consume", { policy: "chat", subject, cost: 5 }, { "Idempotency-Key": "once" });
    await once();
    for (const cost of [1, 5]) expect((await caller.consume("chat", subject, cost)).allowed).toBe(false);
    calls.length = 0;
    expect(await json(await once())).toMatchObject({ allowed: true, replayed: true });
  });

  test("ends with a settle of its subject or a reset of its key through the same isolate", async () => {
    const { caller, subject, consume } = await flooding("key");
    await caller.admin(`/v1/keys/user:${subject.user}`, { method: "DELETE" });
    expect((await consume({ cost: 5 }, { "Idempotency-Key": "all" })).status).toBe(200);
    expect((await consume()).status).toBe(429);
    await caller.post("/v1/settle", { policy: "chat", subject, id: "all", cost: 0 });
    expect((await consume()).status).toBe(200);
  });

  test("ends with another user's settle at the same address, through the same isolate", async () => {
    const { caller } = watched("key");
    const { ip } = newSubject();
    const consume = (user: string, cost: number, key: string) =>
      caller.post("/v1/consume", { policy: "chat", subject: { user, ip }, cost }, { "Idempotency-Key": key });
    for (let i = 0; i < 6; i++) expect((await consume(`settles${i}`, 5, "once")).status).toBe(200);
    const denied = () => caller.consume("chat", { user: "waits", ip });
    expect([(await denied()).allowed, (await denied()).allowed]).toEqual([false, false]);
    await caller.post("/v1/settle", { policy: "chat", subject: { user: "settles0", ip }, id: "once", cost: 4 });
    expect((await denied()).allowed).toBe(true);
  });

  test("ends with a reset of its key, even if the answer to the reset was lost", async () => {
    const lost = ({ method }: Call) => (method === "forget" ? "lostAnswer" : "none");
    const { caller } = watched("shards:1", lost, { RATE_LIMIT_DEADLINE_MS: "50" });
    const { user, ip } = newSubject();
    const consume = async () => (await caller.consume("chat", { user, ip }, 5)).allowed;
    expect([await consume(), await consume(), await consume()]).toEqual([true, false, false]);
    expect((await caller.admin(`/v1/keys/user:${user}`, { method: "DELETE" })).status).toBe(503);
    expect(await consume()).toBe(true);
  });

  test("asks the objects each time if denials are not cached", async () => {
    const { calls, consume } = await flooding("shards:1", { RATE_LIMIT_DENY_CACHE_MS: "0" });
    await consume();
    await consume();
    expect(methods(calls)).toEqual(["consume", "consume"]);
  });

  test("of one user denies no other user at the same address", async () => {
    const { caller, calls, subject } = await flooding("key");
    expect((await caller.consume("chat", { user: newSubject().user, ip: subject.ip })).allowed).toBe(true);
    expect(methods(calls)).toEqual(["consume", "consume"]);
  });
});

describe("an unreachable object", () => {
  const isUser = ({ object }: Call) => object.startsWith("user:");

  test("is a 503 without internal details, which are in the log", async () => {
    const { caller } = watched("key", () => "lost");
    const user = newSubject().user;
    const responses = [
      await caller.post("/v1/consume", { policy: "chat", subject: newSubject() }),
      await caller.post("/v1/check", { policy: "chat", subject: newSubject() }),
      await caller.admin(`/v1/keys/user:${user}`),
      await caller.admin(`/v1/keys/user:${user}`, { method: "DELETE" }),
    ];
    for (const response of responses) {
      expect([response.status, response.headers.get("Retry-After")]).toEqual([503, "1"]);
      const body = await json<ProblemBody>(response);
      expect(body.status).toBe(503);
      expect(JSON.stringify(body)).not.toContain("secret detail");
    }
    expect(errors.mock.calls.length).toBeGreaterThanOrEqual(responses.length);
    expect(String(errors.mock.calls[0]?.[0]?.error)).toContain("secret detail");
  });

  test("has the charge of the other object rolled back", async () => {
    const { caller } = watched("key", (call) => (isUser(call) ? "lost" : "none"));
    const subject = newSubject();
    expect((await caller.post("/v1/consume", { policy: "chat", subject })).status).toBe(503);
    expect((await caller.key(`ip:${subject.ip}`)).counters).toEqual([]);
  });

  test("leaves one charge too many if its rollback is lost, and still denies correctly", async () => {
    const { caller } = watched("key", ({ method }) => (method === "rollBack" ? "lost" : "none"));
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    const denied = await caller.consume("chat", subject);
    expect(denied).toMatchObject({ allowed: false, retry_after_seconds: 60 });
    expect(denied.limits.map(({ used }) => used)).toEqual([5, 5, 6]);
    expect(errors).toHaveBeenCalledTimes(1);
  });

  test("is retried within the deadline if that may help, and counts a consume whose answer was lost once", async () => {
    for (const fault of ["retryable", "retryableAnswer"] as const)
      for (const [placement, objects] of [
        ["key", 2],
        ["shards:1", 1],
      ] as const) {
        const { caller, calls } = watched(placement, (_, nth) => (nth <= objects ? fault : "none"));
        const decision = await caller.consume("chat", newSubject(), 2);
        expect(decision).toMatchObject({ allowed: true, replayed: false });
        expect(decision.limits.map(({ used }) => used)).toEqual([2, 2, 2]);
        expect(methods(calls)).toEqual(Array.from({ length: 2 * objects }, () => "consume"));
      }
  });

  test("is not retried if it is overloaded", async () => {
    const { caller, calls } = watched("shards:1", () => "overloaded");
    expect((await caller.post("/v1/consume", { policy: "chat", subject: newSubject() })).status).toBe(503);
    expect(methods(calls)).toEqual(["consume"]);
  });

  test("is left alone while it is overloaded: requests that need it are answered without a call, others are not touched", async () => {
    let nowMs = Date.now();
    const clock = vi.spyOn(realTiming, "now").mockImplementation(() => nowMs);
    let isOverloaded = true;
    const variables = { RATE_LIMIT_POLICIES: { upload: { on_error: "allow", layers: [byUser] } } };
    const { caller, calls } = watched(
      "user=shards:1,key",
      ({ object }) => (isOverloaded && object === "user-shard:0" ? "overloaded" : "none"),
      variables,
    );
    const subject = newSubject();
    const consume = (policy: string) => caller.post("/v1/consume", { policy, subject });
    expect((await consume("upload")).status).toBe(200);
    calls.length = 0;
    isOverloaded = false;
    // An admission that is not recorded, at once; over HTTP, in a batch and by a check alike.
    expect(await json(await consume("upload"))).toMatchObject({ allowed: true, degraded: true });
    const batched = await caller.post("/v1/batch", { requests: [{ op: "consume", policy: "upload", subject }] });
    expect(await json(batched)).toMatchObject({ results: [{ status: 200, body: { degraded: true } }] });
    expect(await json(await caller.post("/v1/check", { policy: "upload", subject }))).toMatchObject({ degraded: true });
    expect(calls).toEqual([]);
    // The policy chat is denied, and what its other object had charged is rolled back.
    expect((await consume("chat")).status).toBe(503);
    expect(calls.every(({ object }) => object === `ip:${subject.ip}`)).toBe(true);
    expect((await caller.key(`ip:${subject.ip}`)).counters).toEqual([]);
    expect((await caller.consume("chat", { ip: subject.ip })).allowed).toBe(true);
    // An admin's calls go through.
    expect((await caller.key(`user:${subject.user}`)).counters).toEqual([]);
    nowMs += 400;
    expect(await json(await consume("upload"))).toMatchObject({ allowed: true, degraded: false });
    clock.mockRestore();
  });

  test("is given up at the deadline, whether its errors are retryable or it never answers", async () => {
    for (const fault of ["retryable", "hangs"] as const) {
      const { caller, calls } = watched("shards:1", () => fault, { RATE_LIMIT_DEADLINE_MS: "100" });
      expect((await caller.post("/v1/check", { policy: "chat", subject: newSubject() })).status).toBe(503);
      expect(calls.length).toBeLessThan(10);
    }
  });

  test("fails a release that was lost, which succeeds when the caller sends it again", async () => {
    let isLost = true;
    const { caller, calls } = watched("key", (call) =>
      isLost && isUser(call) && call.method === "release" ? "lost" : "none",
    );
    const subject = newSubject();
    const { id } = await caller.consume("jobs", subject);
    calls.length = 0;
    const release = async () => (await caller.post("/v1/release", { policy: "jobs", subject, id })).status;
    expect([await release(), methods(calls)]).toEqual([503, ["release", "release"]]);
    expect(await caller.used("jobs", subject)).toEqual([1, 1, 0]);
    isLost = false;
    expect(await release()).toBe(200);
    expect(await caller.used("jobs", subject)).toEqual([0, 1, 0]);
  });

  test("fails only the releases if its code is too old to know them, in a batch too", async () => {
    const outdated = {
      getByName: (name: string) => {
        const stub = real.getByName(name);
        return { decide: (calls: string) => stub.decide(calls.replaceAll("[4,", "[9,")) };
      },
    };
    const caller = new Caller(workerTarget({ LIMITER_PLACEMENT: "key", LIMITER_OBJECTS: outdated }));
    const subject = newSubject();
    const { id } = await caller.consume("jobs", subject, 5);
    const event = { policy: "jobs", subject, id };
    expect((await caller.post("/v1/release", event)).status).toBe(503);
    const requests = [
      { op: "release", ...event },
      { op: "check", policy: "jobs", subject },
    ];
    const { results } = await json<{ results: { status: number }[] }>(await caller.post("/v1/batch", { requests }));
    expect(results.map(({ status }) => status)).toEqual([503, 200]);
    expect(await caller.used("jobs", subject)).toEqual([1, 5, 1]);
  });

  test("is told to roll back if only its answer was lost", async () => {
    const { caller, calls } = watched("key", (call) =>
      isUser(call) && call.method === "consume" ? "lostAnswer" : "none",
    );
    const subject = newSubject();
    expect((await caller.post("/v1/consume", { policy: "chat", subject })).status).toBe(503);
    expect(methods(calls).sort()).toEqual(["consume", "consume", "rollBack", "rollBack"]);
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });

  test("does not hide a denial by another object, whose limits are in the reply", async () => {
    const subject = newSubject();
    await new Caller(workerTarget({ LIMITER_PLACEMENT: "key" })).consume("chat", subject, 5);
    for (const onError of ["deny", "allow"]) {
      const { caller } = watched("key", (call) => (isUser(call) ? "none" : "lost"), { RATE_LIMIT_ON_ERROR: onError });
      const response = await caller.post("/v1/consume", { policy: "chat", subject });
      expect([response.status, response.headers.get("Retry-After")]).toEqual([429, "60"]);
      expect((await json<DecisionBody>(response)).limits.map(({ layer }) => layer)).toEqual(["caller", "caller"]);
    }
  });

  test("is answered as the policy's own on_error says, if it has one", async () => {
    const statusOf = async (variables: Record<string, unknown>, policy = "chat") => {
      const { caller } = watched("key", () => "lost", variables);
      return (await caller.post("/v1/consume", { policy, subject: newSubject() })).status;
    };
    const upload = (on_error?: string) => ({ RATE_LIMIT_POLICIES: { upload: { on_error, layers: [byUser] } } });
    expect(await statusOf({ ...upload("allow") }, "upload")).toBe(200);
    expect(await statusOf({ ...upload("deny"), RATE_LIMIT_ON_ERROR: "allow" }, "upload")).toBe(503);
    expect(await statusOf({ ...upload(), RATE_LIMIT_ON_ERROR: "allow" }, "upload")).toBe(200);
    expect(await statusOf({ RATE_LIMIT_CHAT_ON_ERROR: "allow" })).toBe(200);
    expect(await statusOf({ RATE_LIMIT_CHAT_ON_ERROR: "deny", RATE_LIMIT_ON_ERROR: "allow" })).toBe(503);
  });

  test("is an admission that is not recorded, if RATE_LIMIT_ON_ERROR is allow", async () => {
    const { caller } = watched("key", (call) => (isUser(call) ? "lost" : "none"), { RATE_LIMIT_ON_ERROR: "allow" });
    const subject = newSubject();
    for (const path of ["/v1/consume", "/v1/check"]) {
      const response = await caller.post(path, { policy: "chat", subject });
      expect([response.status, response.headers.has("RateLimit"), response.headers.has("RateLimit-Policy")]).toEqual([
        200,
        false,
        false,
      ]);
      expect(await json(response)).toMatchObject({ allowed: true, degraded: true, replayed: false, limits: [] });
    }
    expect((await caller.key(`ip:${subject.ip}`)).counters).toEqual([]);
    const settle = { policy: "chat", subject, id: "x", cost: 0 };
    expect((await caller.post("/v1/settle", settle)).status).toBe(503);
  });
});

describe("attempts with one idempotency key that race over two objects", () => {
  test("a rollback never removes the charge that another attempt relies on", async () => {
    const subject = newSubject();
    const key = { "Idempotency-Key": "race" };
    const plain = new Caller(workerTarget({ LIMITER_PLACEMENT: "key" }));
    // The address's limit is used up: the user's object admits the first attempt, and the address's object denies it.
    const others = await Promise.all(
      Array.from({ length: 6 }, () => plain.consume("chat", { user: newSubject().user, ip: subject.ip }, 5)),
    );
    let letRollbackPass = () => {};
    const rollbackPasses = new Promise<void>((resolve) => (letRollbackPass = resolve));
    const first = heldBack("key", ({ method }) => (method === "rollBack" ? rollbackPasses : undefined));
    const firstResponse = first.post("/v1/consume", { policy: "chat", subject }, key);
    await vi.waitFor(async () => expect((await plain.key(`user:${subject.user}`)).counters).toHaveLength(1));
    // A settle makes room at the address. The second attempt overtakes the rollback of the first, and is admitted.
    await plain.post("/v1/settle", {
      policy: "chat",
      subject: { user: others[0]?.limits[0]?.key.slice(5) ?? "", ip: subject.ip },
      id: others[0]?.id,
      cost: 0,
    });
    const second = await plain.post("/v1/consume", { policy: "chat", subject }, key);
    expect([second.status, await json(second)]).toMatchObject([200, { allowed: true }]);
    letRollbackPass();
    expect((await firstResponse).status).toBe(429);
    expect(await plain.used("chat", subject)).toEqual([1, 1, 26]);
  });

  /** The real objects. Calls are held back until the promise of `until` resolves. */
  function heldBack(placement: string, until: (call: Call) => Promise<void> | undefined): Caller {
    const namespace = {
      getByName(object: string) {
        const stub = real.getByName(object);
        return new Proxy(stub, {
          get: (_, name: Named) => async (question: never) => {
            await until({ object, method: methodOf(name, [question]) });
            return (stub[name] as (question: never) => Promise<unknown>)(question);
          },
        });
      },
    };
    return new Caller(workerTarget({ LIMITER_PLACEMENT: placement, LIMITER_OBJECTS: namespace }));
  }
});
