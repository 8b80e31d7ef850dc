import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { AuditObject } from "../../src/audit/audit-object";
import { AuditStore, KEPT_MS } from "../../src/audit/audit-store";
import type { OrderToRecord } from "../../src/audit/protocol";
import type { AuditBody, OverrideList } from "../../src/request/admin-schema";
import { Caller, json, newSubject, type ProblemBody } from "../behaviour/target";
import { type Bindings, withClock, workerTarget } from "./target";

const real = env as unknown as Bindings;
/** In the future, since alarms use the real clock and must not ring by themselves. */
const START_MS = Date.UTC(2040, 0, 1);
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

type Stub = DurableObjectStub<AuditObject>;

const newObject = () => real.LIMITER_AUDIT.getByName(crypto.randomUUID());
/** A new stub: a stub whose object was evicted keeps failing. */
const newStub = (stub: Stub) => real.LIMITER_AUDIT.get(stub.id);
const reset = (key: string, id: string = crypto.randomUUID()): OrderToRecord => ({
  id,
  kind: "reset_key",
  key,
  by: "alice",
});
const ban = (key: string, inMs: number): OrderToRecord => ({
  id: crypto.randomUUID(),
  kind: "set_override",
  key,
  by: "alice",
  override: { kind: "ban", reason: "a test", ends: { inMs } },
});
const keysOf = async (stub: Stub, question: { key?: string; before?: number; most?: number } = {}) =>
  (await stub.orders({ most: 100, ...question })).map(({ key }) => key);
const candidatesOf = async (stub: Stub) => (await stub.overridden("", 100)).map(({ key }) => key);
const tablesOf = (stub: Stub) =>
  runInDurableObject(stub, (_, { storage }) =>
    storage.sql.exec("SELECT name FROM sqlite_master WHERE name LIKE '%_v1'").toArray(),
  );
const alarmOf = (stub: Stub) => runInDurableObject(stub, (_, { storage }) => storage.getAlarm());

/** Every statement of the object fails while `work` runs, as on a disk that is full. */
async function withFullDisk(stub: Stub, work: () => Promise<void>): Promise<void> {
  const fail = () => {
    throw new Error("disk full");
  };
  const spy = await runInDurableObject(stub, (_, { storage }) =>
    vi.spyOn(storage.sql, "exec").mockImplementation(fail),
  );
  await work();
  spy.mockRestore();
}

/** The service with an audit object of its own, on a clock that the test moves. */
function newService(variables: Record<string, unknown> = {}, audit = newObject()) {
  const namespace = { getByName: () => newStub(audit) };
  const target = withClock(workerTarget({ LIMITER_AUDIT: namespace, ...variables }));
  const caller = new Caller(target);
  const pathOf = (key: string) => `/v1/keys/${encodeURIComponent(key)}`;
  return {
    audit,
    caller,
    advance: target.advance,
    put: (key: string, body: object = {}) =>
      target.fetch(`${pathOf(key)}/override`, {
        method: "PUT",
        headers: { Authorization: "Bearer admin-token", "Content-Type": "application/json" },
        body: JSON.stringify({ kind: "ban", reason: "a test", expires_in_seconds: 60, ...body }),
      }),
    lift: (key: string) => caller.admin(`${pathOf(key)}/override`, { method: "DELETE" }),
    reset: (key: string) => caller.admin(pathOf(key), { method: "DELETE" }),
    orders: async (query = "") => (await json<AuditBody>(await caller.admin(`/v1/audit${query}`))).orders,
    list: async (query = "") => json<OverrideList>(await caller.admin(`/v1/overrides${query}`)),
  };
}
const overriddenKeys = ({ overrides }: OverrideList) => overrides.map(({ key }) => key);

let errors: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: START_MS });
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => {
  errors.mockRestore();
  vi.useRealTimers();
});

describe("the audit object", () => {
  test("lists orders newest first, by key or all, a page at a time, and still after an eviction", async () => {
    const stub = newObject();
    for (const key of ["user:a", "user:b", "user:a", "user:c"]) await stub.record(reset(key));
    await abortAllDurableObjects();
    const again = newStub(stub);
    expect(await keysOf(again)).toEqual(["user:c", "user:a", "user:b", "user:a"]);
    expect(await keysOf(again, { key: "user:a" })).toEqual(["user:a", "user:a"]);
    const [, second] = await again.orders({ most: 2 });
    expect(await keysOf(again, { before: second?.number ?? 0, most: 2 })).toEqual(["user:b", "user:a"]);
  });

  test("records an order once that is sent again", async () => {
    const stub = newObject();
    const first = await stub.record(reset("user:a", "same"));
    vi.setSystemTime(START_MS + 1_000);
    expect(await stub.record(reset("user:a", "same"))).toEqual(first);
    expect(await keysOf(stub)).toEqual(["user:a"]);
  });

  test("keeps an order for 30 days to the millisecond, and then deletes it by its alarm", async () => {
    const stub = newObject();
    await stub.record(reset("user:a"));
    expect(await alarmOf(stub)).toBe(START_MS + KEPT_MS);
    vi.setSystemTime(START_MS + HOUR_MS);
    await stub.record(reset("user:b"));
    expect(await alarmOf(stub)).toBe(START_MS + KEPT_MS);
    vi.setSystemTime(START_MS + KEPT_MS - 1);
    expect(await keysOf(stub)).toEqual(["user:b", "user:a"]);
    vi.setSystemTime(START_MS + KEPT_MS);
    expect(await keysOf(stub)).toEqual(["user:b"]);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    const stored = () =>
      runInDurableObject(stub, (_, { storage }) => storage.sql.exec("SELECT key FROM orders_v1").toArray());
    expect([await stored(), await alarmOf(stub)]).toEqual([[{ key: "user:b" }], START_MS + HOUR_MS + KEPT_MS]);
    vi.setSystemTime(START_MS + HOUR_MS + KEPT_MS);
    await runDurableObjectAlarm(stub);
    expect([await tablesOf(stub), await alarmOf(stub)]).toEqual([[], null]);
    expect(await keysOf(stub)).toEqual([]);
  });

  test("sets another alarm when one was lost", async () => {
    const stub = newObject();
    await stub.record(reset("user:a"));
    await runInDurableObject(stub, (_, { storage }) => storage.deleteAlarm());
    vi.setSystemTime(START_MS + HOUR_MS);
    await stub.record(reset("user:b"));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS + KEPT_MS);
  });

  test("takes a key to be overridden until an hour after the latest end that was ordered", async () => {
    const stub = newObject();
    await stub.record(ban("user:long", 2 * KEPT_MS));
    await stub.record(ban("user:long", 1_000));
    await stub.record(ban("user:short", 1_000));
    vi.setSystemTime(START_MS + HOUR_MS + 999);
    expect(await candidatesOf(stub)).toEqual(["user:long", "user:short"]);
    vi.setSystemTime(START_MS + HOUR_MS + 1_000);
    expect(await candidatesOf(stub)).toEqual(["user:long"]);
    vi.setSystemTime(START_MS + KEPT_MS);
    await runDurableObjectAlarm(stub);
    expect([await keysOf(stub), await candidatesOf(stub)]).toEqual([[], ["user:long"]]);
    expect(await alarmOf(stub)).toBe(START_MS + 2 * KEPT_MS + HOUR_MS);
    vi.setSystemTime(START_MS + 2 * KEPT_MS + HOUR_MS);
    await runDurableObjectAlarm(stub);
    expect(await tablesOf(stub)).toEqual([]);
  });

  test("notes the end that an override really has, even if its object's clock is ahead", async () => {
    const stub = newObject();
    const { number } = await stub.record(ban("user:a", 1_000));
    const endsAtMs = START_MS + 10 * HOUR_MS;
    await stub.confirm(number, { kind: "ban", reason: "a test", endsAtMs });
    expect(await stub.orders({ most: 1 })).toMatchObject([{ isDone: true, override: { endsAtMs } }]);
    vi.setSystemTime(endsAtMs + HOUR_MS - 1);
    expect(await candidatesOf(stub)).toEqual(["user:a"]);
  });

  test("drops no key that was ordered about since", async () => {
    const stub = newObject();
    await stub.record(ban("user:a", HOUR_MS));
    const seen = await stub.overridden("", 10);
    await stub.record(ban("user:a", HOUR_MS));
    await stub.dropOverridden(seen);
    expect(await candidatesOf(stub)).toEqual(["user:a"]);
    await stub.dropOverridden(await stub.overridden("", 10));
    expect(await candidatesOf(stub)).toEqual([]);
  });

  test("records an order that comes while the alarm empties the object", async () => {
    const stub = newObject();
    await stub.record(reset("user:a"));
    await runInDurableObject(stub, async (_, { storage }) => {
      const store = new AuditStore(storage);
      expect(store.isEmpty).toBe(false);
      const deleting = store.deleteAll();
      store.record(reset("user:b"), START_MS);
      await deleting;
      expect(store.orders({ most: 10 }, START_MS)).toMatchObject([{ key: "user:b" }]);
    });
  });

  test("stores nothing when it is only read", async () => {
    const stub = newObject();
    expect([await keysOf(stub), await candidatesOf(stub), await tablesOf(stub), await alarmOf(stub)]).toEqual([
      [],
      [],
      [],
      null,
    ]);
  });

  test("records an order whole or not at all, and works again after a write that failed", async () => {
    const stub = newObject();
    await runInDurableObject(stub, (_, { storage }) => {
      const { exec } = storage.sql;
      const spy = vi.spyOn(storage.sql, "exec").mockImplementation((text, ...bindings) => {
        if (text.includes("INSERT INTO overridden_v1")) throw new Error("disk full");
        return exec.call(storage.sql, text, ...bindings);
      });
      expect(() => new AuditStore(storage).record(ban("user:a", HOUR_MS), START_MS)).toThrow("disk full");
      spy.mockRestore();
    });
    expect([await keysOf(stub), await candidatesOf(stub)]).toEqual([[], []]);
    await stub.record(ban("user:a", HOUR_MS));
    expect([await keysOf(stub), await candidatesOf(stub)]).toEqual([["user:a"], ["user:a"]]);
  });
});

describe("an order", () => {
  test("is recorded with who, when, what and why", async () => {
    const { put, lift, reset, orders, advance } = newService();
    await put("user:u", { kind: "limits", limits: [{ policy: "chat", layer: "caller", limits: ["9/minute"] }] });
    advance(1_000);
    await lift("user:u");
    await reset("user:u");
    const by = "LIMITER_ADMIN_TOKENS[0]";
    expect(await orders()).toEqual([
      { id: 3, at: "2040-01-01T00:00:01.000Z", by, order: "reset_key", key: "user:u", done: true },
      { id: 2, at: "2040-01-01T00:00:01.000Z", by, order: "lift_override", key: "user:u", done: true },
      {
        id: 1,
        at: "2040-01-01T00:00:00.000Z",
        by,
        order: "set_override",
        key: "user:u",
        override: {
          kind: "limits",
          reason: "a test",
          expires_at: "2040-01-01T00:01:00.000Z",
          limits: [{ policy: "chat", layer: "caller", limits: ["9/minute"] }],
        },
        done: true,
      },
    ]);
  });

  test("is a 503 and changes nothing when it can't be recorded", async () => {
    const { audit, caller, put, lift, reset, orders } = newService();
    const [banned, free] = [newSubject(), newSubject()];
    await put(`user:${banned.user}`);
    await caller.consume("chat", free, 3);
    await withFullDisk(audit, async () => {
      const refused = [
        await put(`user:${free.user}`),
        await lift(`user:${banned.user}`),
        await reset(`user:${free.user}`),
      ];
      for (const response of refused) {
        expect([response.status, response.headers.get("Retry-After")]).toEqual([503, "1"]);
        expect((await json<ProblemBody>(response)).detail).toMatch(/could not be recorded, so nothing was done/);
      }
    });
    expect((await caller.consume("chat", banned)).allowed).toBe(false);
    expect(await caller.consume("chat", free)).toMatchObject({ allowed: true, limits: [{ used: 4 }, {}, {}] });
    expect((await orders()).map(({ key }) => key)).toEqual([`user:${banned.user}`]);
  });

  test("is a 503 and changes nothing when the audit never answers", async () => {
    const silent = { getByName: () => ({ record: () => new Promise(() => {}) }) };
    const { caller, put } = newService({ LIMITER_AUDIT: silent, RATE_LIMIT_DEADLINE_MS: 1_000 });
    const subject = newSubject();
    // The deadline is by this clock.
    vi.useRealTimers();
    expect((await put(`user:${subject.user}`)).status).toBe(503);
    expect((await caller.consume("chat", subject)).allowed).toBe(true);
  });

  test("that is refused is not recorded", async () => {
    const { put, caller, orders } = newService();
    expect((await put("user:u", { reason: "" })).status).toBe(400);
    expect((await put("nonsense")).status).toBe(400);
    const headers = { Authorization: "Bearer caller-token" };
    expect((await caller.target.fetch("/v1/keys/user:u", { method: "DELETE", headers })).status).toBe(403);
    expect(await orders()).toEqual([]);
  });

  test("that could not be carried out stays recorded, as not known to be done", async () => {
    const lost = { getByName: () => ({ setOverride: async () => Promise.reject(new Error("lost")) }) };
    const { put, orders, list } = newService({ LIMITER_OBJECTS: lost });
    expect((await put("user:u")).status).toBe(503);
    expect(await orders()).toMatchObject([
      { order: "set_override", key: "user:u", override: { expires_at: "2040-01-01T00:01:00.000Z" }, done: false },
    ]);
    // Its object can't be asked either.
    expect(await list()).toEqual({ overrides: [], unknown: ["user:u"], next: null });
  });

  test("is carried out and answered even if the audit can't note that it was", async () => {
    const audit = newObject();
    const forgetful = {
      getByName: () => ({
        record: (order: OrderToRecord) => audit.record(order),
        confirm: async () => Promise.reject(new Error("lost")),
        orders: (question: { most: number }) => audit.orders(question),
      }),
    };
    const { put, orders, caller } = newService({ LIMITER_AUDIT: forgetful });
    const subject = newSubject();
    expect((await put(`user:${subject.user}`)).status).toBe(200);
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect(await orders()).toMatchObject([{ done: false }]);
  });

  test("needs no audit: without the binding it is carried out and leaves no record", async () => {
    const { put, lift, reset, caller } = newService({ LIMITER_AUDIT: undefined });
    const subject = newSubject();
    expect((await put(`user:${subject.user}`)).status).toBe(200);
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect((await lift(`user:${subject.user}`)).status).toBe(204);
    expect((await reset(`user:${subject.user}`)).status).toBe(204);
    expect((await caller.consume("chat", subject)).allowed).toBe(true);
    for (const path of ["/v1/audit", "/v1/overrides"]) {
      const response = await caller.admin(path);
      expect([response.status, (await json<ProblemBody>(response)).detail]).toEqual([
        404,
        expect.stringContaining("LIMITER_AUDIT"),
      ]);
    }
  });

  test("by a caller about its own inline key is not recorded", async () => {
    const { caller, orders } = newService();
    const headers = { Authorization: "Bearer caller-token" };
    const response = await caller.target.fetch("/v1/inline/keys/k", { method: "DELETE", headers });
    expect([response.status, await orders()]).toEqual([204, []]);
  });
});

describe("the list of overrides in force", () => {
  test("has what the objects have, with who ordered it, until the millisecond at which it ends", async () => {
    const { put, lift, reset, list, advance } = newService();
    const keys = ["user:a", "user:b", "user:c"].map((key) => `${key}${crypto.randomUUID()}`);
    const [first = "", second = "", third = ""] = keys;
    for (const key of keys) await put(key);
    await lift(second);
    await reset(third);
    const item = (key: string) => ({
      key,
      override: { kind: "ban", reason: "a test", expires_at: "2040-01-01T00:01:00.000Z" },
      ordered_by: "LIMITER_ADMIN_TOKENS[0]",
      ordered_at: "2040-01-01T00:00:00.000Z",
    });
    expect(await list()).toEqual({ overrides: [item(first), item(third)], unknown: [], next: null });
    advance(59_999);
    expect(overriddenKeys(await list())).toEqual([first, third]);
    advance(1);
    expect(overriddenKeys(await list())).toEqual([]);
  });

  test("is listed a page at a time, and each page has only keys after the page before", async () => {
    const { put, list } = newService();
    const prefix = crypto.randomUUID();
    const keys = Array.from({ length: 5 }, (_, i) => `user:${prefix}${i}`);
    for (const key of [...keys].reverse()) await put(key);
    const first = await list("?limit=2");
    const second = await list(`?limit=2&after=${encodeURIComponent(first.next ?? "")}`);
    const third = await list(`?limit=2&after=${encodeURIComponent(second.next ?? "")}`);
    expect([first, second, third].map(overriddenKeys)).toEqual([keys.slice(0, 2), keys.slice(2, 4), keys.slice(4)]);
    expect([second.next, third.next]).toEqual([keys[3], null]);
  });

  test("goes on after a key that RATE_LIMIT_IPV6_PREFIX would write otherwise today", async () => {
    const { audit, put } = newService();
    const [address, user] = ["ip:2001:db8:1:2::/64", `user:${crypto.randomUUID()}`];
    for (const key of [address, user]) expect((await put(key)).status).toBe(200);
    const { list } = newService({ RATE_LIMIT_IPV6_PREFIX: "56" }, audit);
    const first = await list("?limit=1");
    expect([overriddenKeys(first), first.next]).toEqual([[address], address]);
    expect(overriddenKeys(await list(`?limit=1&after=${encodeURIComponent(address)}`))).toEqual([user]);
  });

  test("has an override whose answer was lost, and none that did not arrive", async () => {
    let fate: "answer" | "question" = "answer";
    const objects = {
      getByName: (name: string, where: object) => {
        const stub = real.LIMITER_OBJECTS.getByName(name, where);
        return {
          overrideOf: (key: string) => stub.overrideOf(key),
          setOverride: async (...order: Parameters<typeof stub.setOverride>) => {
            if (fate === "answer") await stub.setOverride(...order);
            throw new Error("lost");
          },
        };
      },
    };
    const { put, list } = newService({ LIMITER_OBJECTS: objects });
    const [arrived, lost] = [`user:${crypto.randomUUID()}`, `user:${crypto.randomUUID()}`];
    expect((await put(arrived)).status).toBe(503);
    fate = "question";
    expect((await put(lost)).status).toBe(503);
    expect(await list()).toMatchObject({ overrides: [{ key: arrived }], unknown: [] });
  });

  test("drops a key whose override was lifted, ten minutes after the last order that set one, and not before", async () => {
    const { audit, put, lift, list, advance } = newService();
    const key = `user:${crypto.randomUUID()}`;
    await put(key, { expires_in_seconds: 86_400 });
    await lift(key);
    advance(10 * MINUTE_MS);
    expect([overriddenKeys(await list()), await candidatesOf(audit)]).toEqual([[], [key]]);
    advance(1);
    expect([overriddenKeys(await list()), await candidatesOf(audit)]).toEqual([[], []]);
    await put(key, { expires_in_seconds: 86_400 });
    advance(HOUR_MS);
    expect([overriddenKeys(await list()), await candidatesOf(audit)]).toEqual([[key], [key]]);
  });

  test("hides an override while another placement is in force, and has it again afterwards", async () => {
    const { audit, put, list, advance } = newService();
    const elsewhere = newService({ LIMITER_PLACEMENT: "shards:1" }, audit);
    const key = `user:${crypto.randomUUID()}`;
    await put(key, { expires_in_seconds: 86_400 });
    advance(HOUR_MS);
    expect(overriddenKeys(await elsewhere.list())).toEqual([]);
    expect(overriddenKeys(await list())).toEqual([key]);
  });

  test("says an override that was set without an audit was ordered by nobody known, once it is listed", async () => {
    const { put, list } = newService();
    const key = `user:${crypto.randomUUID()}`;
    const before = newService({ LIMITER_AUDIT: undefined });
    await before.put(key);
    expect(overriddenKeys(await list())).toEqual([]);
    await put(key);
    await before.put(key, { kind: "exempt" });
    expect(await list()).toMatchObject({
      overrides: [{ key, override: { kind: "exempt" }, ordered_by: null, ordered_at: null }],
    });
  });
});

describe.each(["/v1/audit", "/v1/overrides"])("%s", (path) => {
  test("answers an admin only, and refuses what it does not know", async () => {
    const { caller } = newService();
    const headers = { Authorization: "Bearer caller-token" };
    expect((await caller.target.fetch(path, { headers })).status).toBe(403);
    for (const query of ["limit=0", "limit=101", "limit=x", "limit=1&limit=1", "more=1", "key=nonsense", "after=x"]) {
      const response = await caller.admin(`${path}?${query}`);
      expect([query, response.status]).toEqual([query, 400]);
      expect((await json<ProblemBody>(response)).errors).toHaveLength(1);
    }
    expect((await caller.admin(`${path}?limit=50`)).status).toBe(200);
  });

  test("is a 503 when the audit fails", async () => {
    const { audit, caller, put } = newService();
    await put("user:u");
    await withFullDisk(audit, async () => expect((await caller.admin(path)).status).toBe(503));
    expect((await caller.admin(path)).status).toBe(200);
  });
});
