import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { LimiterObject } from "../../src/object/object";
import type { Charge, Counter, OverrideToSet } from "../../src/object/protocol";
import { Store } from "../../src/object/store/store";
import { CLOCK_MARGIN_MS } from "../../src/object/sweep";
import { Caller, newSubject } from "../behaviour/target";
import { HOUR_MS, inside, newObject, objects, START_MS, TestLedger } from "./ledger";
import { ask, workerTarget } from "./target";

const KEY = "user:u";
const COUNTER: Counter = { layer: "caller", key: KEY, limits: [{ max: 5, windowMs: 60_000 }] };

const charge = (cost = 1): Charge => ({
  id: crypto.randomUUID(),
  identity: "s",
  attempt: "a",
  windowMs: 60_000,
  policy: "chat",
  cost,
  counters: [COUNTER],
});
const ban = (inMs: number): OverrideToSet => ({ kind: "ban", reason: "a test", ends: { inMs } });

type Stub = DurableObjectStub<LimiterObject>;
const alarmOf = (stub: Stub) => inside(stub, (storage) => storage.getAlarm());
const tablesOf = (stub: Stub) =>
  inside(stub, ({ sql }) =>
    sql
      .exec("SELECT name FROM sqlite_master WHERE name IN ('pages_v1', 'overrides_v1') ORDER BY name")
      .toArray()
      .map(({ name }) => name),
  );
async function evicted(stub: Stub): Promise<Stub> {
  await abortAllDurableObjects();
  return objects.get(stub.id);
}

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));
afterEach(() => void vi.useRealTimers());

describe("an override in its object", () => {
  test("holds for a key without events, through evictions, until the millisecond at which it ends", async () => {
    const stub = newObject();
    expect(await stub.setOverride(KEY, ban(90_000))).toEqual({
      kind: "ban",
      reason: "a test",
      endsAtMs: START_MS + 90_000,
    });
    for (let i = 0; i < 2; i++) expect((await ask(stub, "consume", charge())).allowed).toBe(false);
    expect((await ask(await evicted(stub), "consume", charge())).allowed).toBe(false);
    vi.setSystemTime(START_MS + 89_999);
    const before = await ask(await evicted(stub), "consume", charge());
    expect(before).toMatchObject({ allowed: false, standings: [[{ fitsInMs: 1 }]], overrides: [{ endsInMs: 1 }] });
    vi.setSystemTime(START_MS + 90_000);
    const after = await ask(await evicted(stub), "consume", charge());
    expect(after.allowed).toBe(true);
    expect(after).not.toHaveProperty("overrides");
  });

  test("is gone once it is lifted, in memory and after an eviction, and leaves the object empty", async () => {
    const stub = newObject();
    await stub.setOverride(KEY, ban(90_000));
    expect((await ask(stub, "check", charge())).allowed).toBe(false);
    await stub.liftOverride(KEY);
    expect((await ask(stub, "check", charge())).allowed).toBe(true);
    const again = await evicted(stub);
    expect((await ask(again, "check", charge())).allowed).toBe(true);
    expect([await tablesOf(again), await alarmOf(again)]).toEqual([[], null]);
  });

  test("stays when its key is reset, and keeps the object until it ends", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge());
    await stub.setOverride(KEY, ban(2 * HOUR_MS));
    await stub.forget(KEY);
    expect(await ask(stub, "consume", charge())).toMatchObject({ allowed: false, standings: [[{ used: 0 }]] });
    expect(await alarmOf(stub)).not.toBeNull();
  });

  test("has an alarm of its own that deletes everything, if it outlives all pages", async () => {
    const stub = newObject();
    await stub.setOverride(KEY, ban(30 * HOUR_MS));
    expect(await alarmOf(stub)).toBe(START_MS + 30 * HOUR_MS + CLOCK_MARGIN_MS);
    vi.setSystemTime(START_MS + 1);
    await ask(stub, "consume", { ...charge(), counters: [{ ...COUNTER, key: "user:v" }] });
    expect(await alarmOf(stub)).toBe(START_MS + 1 + HOUR_MS);
    vi.setSystemTime(START_MS + 1 + HOUR_MS);
    await runDurableObjectAlarm(stub);
    const again = await evicted(stub);
    expect((await ask(again, "check", charge())).allowed).toBe(false);
    expect(await alarmOf(again)).toBe(START_MS + 30 * HOUR_MS + CLOCK_MARGIN_MS);
    vi.setSystemTime(START_MS + 30 * HOUR_MS + CLOCK_MARGIN_MS);
    await runDurableObjectAlarm(again);
    expect([await tablesOf(again), await alarmOf(again)]).toEqual([[], null]);
    expect((await ask(again, "consume", charge())).allowed).toBe(true);
  });

  test("does not delay the sweep of pages that expire earlier, and rings at most once an hour", async () => {
    const stub = newObject();
    await stub.setOverride(KEY, ban(366 * 24 * HOUR_MS));
    await ask(stub, "consume", { ...charge(), windowMs: 3 * HOUR_MS, counters: [{ ...COUNTER, key: "user:v" }] });
    expect(await alarmOf(stub)).toBe(START_MS + 3 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
    await stub.setOverride("user:w", ban(1_000));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS);
    vi.setSystemTime(START_MS + HOUR_MS);
    await runDurableObjectAlarm(stub);
    expect(await alarmOf(stub)).toBe(START_MS + 3 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("is read when its account is opened, and costs no statement if no key has an override", async () => {
    await inside(newObject(), (storage) => {
      const { sql } = storage;
      let statements: string[] = [];
      const counted = new Proxy(sql, {
        get: (_, name) => {
          if (name !== "exec") return Reflect.get(sql, name) as unknown;
          return (text: string, ...bindings: unknown[]) => {
            statements.push(text);
            return sql.exec(text, ...bindings);
          };
        },
      });
      const open = () => {
        const ledger = new TestLedger(new Store({ ...storage, sql: counted } as DurableObjectStorage));
        statements = [];
        ledger.check(charge(), START_MS);
        ledger.check(charge(), START_MS);
        return statements.length;
      };
      new TestLedger(new Store(storage)).consume(charge(), START_MS);
      expect(open()).toBe(1);
      new TestLedger(new Store(storage)).setOverride("user:other", ban(1_000), START_MS);
      expect(open()).toBe(2);
    });
  });

  test("writes 1 row when set and when lifted, and 2 rows more for its table the first time", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const rowsOf = (work: () => void) => {
        const before = store.rowsWritten;
        work();
        return store.rowsWritten - before;
      };
      expect(rowsOf(() => ledger.liftOverride(KEY, START_MS))).toBe(0);
      expect(rowsOf(() => ledger.setOverride(KEY, ban(1_000), START_MS))).toBe(3);
      expect(rowsOf(() => ledger.setOverride(KEY, ban(2_000), START_MS))).toBe(1);
      expect(rowsOf(() => ledger.check(charge(), START_MS))).toBe(0);
      expect(rowsOf(() => ledger.consume(charge(), START_MS))).toBe(0);
      expect(rowsOf(() => ledger.liftOverride(KEY, START_MS))).toBe(1);
      expect(rowsOf(() => ledger.liftOverride(KEY, START_MS))).toBe(0);
    });
  });

  test("is not in force if it can't be stored, in storage or in memory", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      ledger.setOverride(KEY, { kind: "exempt", reason: "a test", ends: { inMs: 1_000 } }, START_MS);
      storage.sql.exec("CREATE TRIGGER full BEFORE UPDATE ON overrides_v1 BEGIN SELECT RAISE(ABORT, 'disk full'); END");
      expect(() => ledger.setOverride(KEY, ban(1_000), START_MS)).toThrow(/disk full/);
      for (const reader of [ledger, new TestLedger(store)])
        expect(reader.check(charge(), START_MS)).toMatchObject({ allowed: true, overrides: [{ kind: "exempt" }] });
    });
  });

  test("keeps events for its wider window, on their page and in memory", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const limits = [{ max: 100, windowMs: 10 * HOUR_MS }];
      const layers = [{ policy: "chat", layer: "caller", limits }];
      ledger.setOverride(KEY, { kind: "limits", reason: "a test", layers, ends: { inMs: 24 * HOUR_MS } }, START_MS);
      for (let i = 0; i < 100; i++) ledger.consume(charge(), START_MS + i * 1_000);
      const lastMs = START_MS + 10 * HOUR_MS - 1;
      for (const _ of ledger.sweep(lastMs));
      for (const reader of [ledger, new TestLedger(store)])
        expect(reader.consume(charge(), lastMs)).toMatchObject({
          allowed: false,
          standings: [[{ used: 100, fitsInMs: 1 }]],
        });
      expect(ledger.consume(charge(), lastMs + 1).allowed).toBe(true);
    });
  });

  test.each<[string, OverrideToSet]>([
    ["a ban", ban(HOUR_MS)],
    [
      "limits with a shorter window",
      {
        kind: "limits",
        reason: "a test",
        ends: { inMs: HOUR_MS },
        layers: [{ policy: "chat", layer: "caller", limits: [{ max: 2, windowMs: 10_000 }] }],
      },
    ],
    [
      "limits with a longer window",
      {
        kind: "limits",
        reason: "a test",
        ends: { inMs: HOUR_MS },
        layers: [{ policy: "chat", layer: "caller", limits: [{ max: 2, windowMs: 120_000 }] }],
      },
    ],
  ])("keeps the events that the counter's own limits count in the list of its events: %s", async (_, override) => {
    const stub = newObject();
    const at = async (ms: number, cost: number) => {
      vi.setSystemTime(START_MS + ms);
      expect((await ask(stub, "consume", charge(cost))).allowed).toBe(true);
    };
    await at(0, 1);
    await at(30_000, 2);
    await stub.setOverride(KEY, override);
    const seenAt = async (ms: number) => {
      vi.setSystemTime(START_MS + ms);
      const [inspected] = await stub.inspect(KEY, [{ policy: "chat", ...COUNTER }], 10);
      expect(inspected?.total).toBe(inspected?.events.length);
      return [inspected?.standings[0]?.used, inspected?.events.map(({ cost }) => cost)];
    };
    const { layers } = override;
    const windowMs = layers?.[0]?.limits[0]?.windowMs ?? 60_000;
    expect(await seenAt(59_999)).toEqual([windowMs < 29_999 ? 0 : 3, [2, 1]]);
    expect((await seenAt(60_000))[1]).toEqual(windowMs > 60_000 ? [2, 1] : [2]);
  });

  test("does not change how a charge is rolled back", async () => {
    const stub = newObject();
    const admitted = charge(2);
    await ask(stub, "consume", admitted);
    await stub.setOverride(KEY, ban(1_000));
    expect(await ask(stub, "rollBack", admitted)).toMatchObject({
      standings: [[{ used: 0 }]],
      overrides: [{ kind: "ban" }],
    });
  });
});

test.each(["key", "shards:1"])("a lifted ban denies nobody, even if a consume was in flight: %s", async (placement) => {
  let letAnswerPass = () => {};
  let onDecided = () => {};
  const answerPasses = new Promise<void>((resolve) => (letAnswerPass = resolve));
  const decided = new Promise<void>((resolve) => (onDecided = resolve));
  let isHeldBack = true;
  const namespace = {
    getByName(object: string) {
      const stub = objects.getByName(object);
      return new Proxy(stub, {
        get: (_, method: "decide") => async (question: string, override: never) => {
          const answer = await (stub[method] as (...args: unknown[]) => Promise<unknown>)(question, override);
          if (method !== "decide" || !isHeldBack) return answer;
          onDecided();
          await answerPasses;
          return answer;
        },
      });
    },
  };
  const caller = new Caller(
    workerTarget({ LIMITER_PLACEMENT: placement, LIMITER_OBJECTS: namespace, RATE_LIMIT_DENY_CACHE_MS: "60000" }),
  );
  const subject = newSubject();
  const path = `/v1/keys/user:${subject.user}/override`;
  const headers = { Authorization: "Bearer admin-token", "Content-Type": "application/json" };
  const body = JSON.stringify({ kind: "ban", reason: "a test", expires_in_seconds: 60 });
  expect((await caller.target.fetch(path, { method: "PUT", headers, body })).status).toBe(200);
  const inFlight = caller.consume("chat", subject);
  await decided;
  expect((await caller.admin(path, { method: "DELETE" })).status).toBe(204);
  isHeldBack = false;
  letAnswerPass();
  expect((await inFlight).allowed).toBe(false);
  expect((await caller.consume("chat", subject)).allowed).toBe(true);
});
