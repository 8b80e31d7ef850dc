import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { MemoryBudget } from "../../src/object/account-cache";
import type { Ledger } from "../../src/object/ledger";
import type { LimiterObject } from "../../src/object/object";
import { Store } from "../../src/object/store/store";
import { CLOCK_MARGIN_MS } from "../../src/object/sweep";
import { caller, charge, countPages, HOUR_MS, inside, ip, newObject, objects, START_MS, TestLedger } from "./ledger";
import { ask } from "./target";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("storage", () => {
  test("a check leaves nothing in an object", async () => {
    const stub = newObject();
    await ask(stub, "check", charge([caller("user:u")]));
    expect(await countPages(stub)).toBeUndefined();
    expect(await inside(stub, (storage) => storage.getAlarm())).toBeNull();
  });

  test("counters come back after an eviction", async () => {
    const stub = newObject();
    for (let i = 0; i < 5; i++) expect((await ask(stub, "consume", charge([caller("user:u")]))).allowed).toBe(true);
    await abortAllDurableObjects();
    const again = objects.get(stub.id);
    expect(await ask(again, "consume", charge([caller("user:u")]))).toMatchObject({
      allowed: false,
      standings: [[{ used: 5 }, { used: 5 }]],
    });
    vi.setSystemTime(START_MS + 60_000);
    await abortAllDurableObjects();
    expect(await ask(objects.get(stub.id), "consume", charge([caller("user:u")]))).toMatchObject({
      allowed: true,
      standings: [[{ used: 1 }, { used: 6 }]],
    });
  });

  test("admits exactly the limit of 500 consumes at once", async () => {
    const stub = newObject();
    const verdicts = await Promise.all(
      Array.from({ length: 500 }, () => ask(stub, "consume", charge([caller("user:u", 37)]))),
    );
    expect(verdicts.filter(({ allowed }) => allowed)).toHaveLength(37);
  });

  test("all events of a long log come back after an eviction", async () => {
    const stub = newObject();
    const counter = ip("ip:1", 1_000_000);
    await inside(stub, (storage) => {
      const ledger = new TestLedger(new Store(storage));
      for (let i = 0; i < 20_000; i++) ledger.consume(charge([counter]), START_MS);
    });
    await abortAllDurableObjects();
    const again = objects.get(stub.id);
    expect((await ask(again, "check", charge([counter]))).standings).toMatchObject([[{ used: 20_000 }]]);
    expect(await again.inspect("ip:1", [{ policy: "chat", ...counter }], 3)).toMatchObject([
      { total: 20_000, events: [{}, {}, {}] },
    ]);
  });

  test("lists events of one millisecond in the order of admission, over slots that are used again", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const counter = ip("ip:1", 1_000);
      const admitted: string[] = [];
      const listed = (reader: Ledger, atMs: number) =>
        reader.inspect("ip:1", [{ policy: "chat", ...counter }], 1_000, atMs)[0]?.events.map(({ id }) => id);
      for (const [round, events] of [130, 110, 90].entries()) {
        const atMs = START_MS + round * 60_000;
        admitted.length = 0;
        for (let i = 0; i < events; i++) {
          const id = `${round}-${i}`;
          ledger.consume({ ...charge([counter]), id }, atMs);
          admitted.unshift(id);
        }
        for (const reader of [ledger, new TestLedger(store)]) expect(listed(reader, atMs)).toEqual(admitted);
      }
    });
  });

  test("only a denial carries leavings, since only denials are cached", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      const consume = (cost: number) =>
        ledger.consume({ ...charge([caller("user:u")], cost), cacheMs: 1_000 }, START_MS);
      expect(consume(5)).not.toHaveProperty("leavings");
      expect(consume(1)).toMatchObject({
        allowed: false,
        leavings: [
          [
            [60_000, 5],
            [3_600_000, 5],
          ],
        ],
      });
    });
  });

  test("accounts beyond the memory budget are dropped from memory and lose nothing", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage), new MemoryBudget(20_000));
      for (let round = 1; round <= 5; round++)
        for (let key = 0; key < 100; key++)
          expect(ledger.consume(charge([caller(`user:${key}`)]), START_MS).standings[0]?.[0]?.used).toBe(round);
      for (let key = 0; key < 100; key++)
        expect(ledger.consume(charge([caller(`user:${key}`)]), START_MS).allowed).toBe(false);
      expect(ledger.weightBytes).toBeLessThanOrEqual(20_000);
    });
  });

  test("a write that fails charges nothing, in storage or in memory", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      ledger.consume(charge([caller("user:u"), ip("ip:1")]), START_MS);
      storage.sql.exec(
        "CREATE TRIGGER full BEFORE UPDATE ON pages_v1 WHEN new.key = 'ip:1' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
      );
      expect(() => ledger.consume(charge([caller("user:u"), ip("ip:1")]), START_MS)).toThrow(/disk full/);
      storage.sql.exec("DROP TRIGGER full");
      for (const reader of [ledger, new TestLedger(store)])
        expect(reader.check(charge([caller("user:u"), ip("ip:1")]), START_MS).standings).toMatchObject([
          [{ used: 1 }, { used: 1 }],
          [{ used: 1 }],
        ]);
    });
  });

  test("a charge that is rolled back leaves no trace, whatever its page", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const costing = (cost: number) => ({ ...charge([caller("user:u", 1_000)]), cost });
      const charges = Array.from({ length: 200 }, (_, i) => costing(1 + (i % 3)));
      for (const charge of charges) ledger.consume(charge, START_MS);
      const total = charges.reduce((sum, { cost }) => sum + cost, 0);
      const rolledBack = [charges[0], charges[57], charges[199]] as ReturnType<typeof costing>[];
      for (const charge of rolledBack) ledger.rollBack(charge, START_MS);
      const left = total - rolledBack.reduce((sum, { cost }) => sum + cost, 0);
      for (const reader of [ledger, new TestLedger(store)])
        expect(reader.check(charge([caller("user:u", 1_000)]), START_MS).standings).toMatchObject([
          [{ used: left }, { used: left }],
        ]);
    });
  });
});

describe("the alarm", () => {
  const alarmOf = (stub: DurableObjectStub<LimiterObject>) => inside(stub, (storage) => storage.getAlarm());

  /** The object, woken again, as if it had died before its alarm was set. */
  const diedWithoutAlarm = async (stub: DurableObjectStub<LimiterObject>) => {
    expect(await alarmOf(stub)).not.toBeNull();
    await inside(stub, (storage) => storage.deleteAlarm());
    await abortAllDurableObjects();
    return objects.get(stub.id);
  };

  test("is set once the first answer has left, so that no caller waits for the runtime's alarm manager", async () => {
    const firsts: (string | undefined)[] = [];
    for (let i = 0; i < 20; i++) {
      const stub = newObject();
      const order: string[] = [];
      const setAlarm = async () => void order.push("alarm");
      await inside(stub, (storage) => void vi.spyOn(storage, "setAlarm").mockImplementation(setAlarm));
      await ask(stub, "consume", charge([caller("user:u")]));
      order.push("answer");
      // Not by a promise that the object settles: what waits for it would go on in the object's context, and end with it.
      await vi.waitFor(() => expect(order).toHaveLength(2));
      firsts.push(order[0]);
    }
    // On a busy machine an answer that has left may be overtaken. An alarm that the turn sets comes first each time.
    expect(firsts.filter((first) => first === "answer").length).toBeGreaterThan(10);
  });

  test("is set by whatever wakes an object that died before it was set", async () => {
    const wakes: ((stub: DurableObjectStub<LimiterObject>) => Promise<unknown>)[] = [
      (stub) => ask(stub, "check", charge([ip("ip:1")])),
      (stub) => ask(stub, "consume", charge([ip("ip:1", 1)])),
      (stub) => ask(stub, "settle", { ...charge([ip("ip:1")]), id: "unknown" }),
      (stub) => Promise.resolve(stub.inspect("ip:1", [{ policy: "chat", ...ip("ip:1") }], 0)),
      (stub) => stub.forget("ip:other"),
      (stub) => stub.liftOverride("ip:other"),
    ];
    for (const wake of wakes) {
      const stub = newObject();
      await ask(stub, "consume", charge([ip("ip:1", 1)]));
      const again = await diedWithoutAlarm(stub);
      expect(await alarmOf(again)).toBeNull();
      await wake(again);
      expect(await alarmOf(again)).toBe(START_MS + HOUR_MS);
    }
  });

  test("is set by the next call if only the page of a rolled back charge is left, and never for an object without rows", async () => {
    const stub = newObject();
    const rolledBack = charge([ip("ip:1")]);
    await ask(stub, "consume", rolledBack);
    await ask(stub, "rollBack", rolledBack);
    const again = await diedWithoutAlarm(stub);
    await ask(again, "check", charge([ip("ip:1")]));
    expect([await countPages(again), await alarmOf(again)]).toEqual([1, START_MS + HOUR_MS]);
    vi.setSystemTime(START_MS + HOUR_MS);
    await runDurableObjectAlarm(again);
    await ask(again, "check", charge([ip("ip:1")]));
    expect([await countPages(again), await alarmOf(again)]).toEqual([undefined, null]);
  });

  test("is set by the sweep alone, however many checks come between its steps", async () => {
    const { id } = newObject();
    await inside(objects.get(id), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      for (let key = 0; key < 1_000; key++)
        ledger.consume({ ...charge([caller(`user:${key}`)]), windowMs: 240 * HOUR_MS }, START_MS);
    });
    await abortAllDurableObjects();
    await runInDurableObject(objects.get(id), async (object) => {
      const swept = object.alarm();
      object.inspect("user:1", [{ policy: "chat", ...caller("user:1") }], 0);
      await swept;
    });
    expect(await alarmOf(objects.get(id))).toBe(START_MS + 240 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("is set once, for the expiry of the first event, and not again by later events", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS + 2 * CLOCK_MARGIN_MS);
    vi.setSystemTime(START_MS + 1_000);
    await ask(stub, "consume", charge([caller("user:u")]));
    await abortAllDurableObjects();
    await ask(objects.get(stub.id), "consume", charge([caller("user:u")]));
    expect(await alarmOf(objects.get(stub.id))).toBe(START_MS + HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("comes earlier for a key that expires earlier", async () => {
    const stub = newObject();
    await ask(stub, "consume", { ...charge([caller("user:u")]), windowMs: 24 * HOUR_MS });
    expect(await alarmOf(stub)).toBe(START_MS + 24 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
    await ask(stub, "consume", charge([caller("user:v")]));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("comes at most once an hour, however short the windows are", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([ip("ip:1")]));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS);
    vi.setSystemTime(START_MS + HOUR_MS);
    await ask(stub, "consume", charge([ip("ip:1")]));
    await runDurableObjectAlarm(stub);
    expect(await alarmOf(stub)).toBe(START_MS + 2 * HOUR_MS);
    await ask(stub, "consume", charge([ip("ip:1")]));
    expect(await alarmOf(stub)).toBe(START_MS + 2 * HOUR_MS);
  });

  test("deletes expired pages, keeps the rest, and is set again for it", async () => {
    const stub = newObject();
    await ask(stub, "consume", { ...charge([caller("user:u")]), windowMs: 24 * HOUR_MS });
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await countPages(stub)).toBe(1);
    expect(await alarmOf(stub)).toBe(START_MS + 24 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("deletes everything in an idle object, which can then be used like a new one", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u"), ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS + 2 * CLOCK_MARGIN_MS);
    await runDurableObjectAlarm(stub);
    expect(await countPages(stub)).toBeUndefined();
    expect(await alarmOf(stub)).toBeNull();
    expect(await ask(stub, "consume", charge([caller("user:u")], 5))).toMatchObject({ allowed: true });
    expect(await alarmOf(stub)).toBe(START_MS + 2 * (HOUR_MS + 2 * CLOCK_MARGIN_MS));
  });

  test("sweeps an object with many keys step by step, and calls are decided between the steps", async () => {
    const stub = newObject();
    await inside(stub, (storage) => {
      const ledger = new TestLedger(new Store(storage));
      for (let key = 0; key < 2_000; key++)
        ledger.consume(charge([key % 2 ? caller(`user:${key}`) : ip(`ip:${key}`)]), START_MS);
      const steps = ledger.sweep(START_MS + 60_000 + 2 * CLOCK_MARGIN_MS);
      for (let step = 0; step < 4; step++) {
        expect(steps.next().done).toBe(false);
        expect(ledger.consume(charge([caller("user:1999")]), START_MS + 60_000).allowed).toBe(true);
      }
      expect(steps.next()).toEqual({ done: true, value: expect.any(Number) });
    });
    expect(await countPages(stub)).toBe(1_000);
  });

  test("keeps expired pages for 1 minute, so that a clock that goes back by as much misses nothing, even after an eviction", async () => {
    for (const [backMs, allowed] of [
      [1, false],
      [CLOCK_MARGIN_MS, false],
      [CLOCK_MARGIN_MS + 1, true],
    ] as const)
      await inside(newObject(), (storage) => {
        const store = new Store(storage);
        const counter = ip("ip:1", 1);
        // With an id window of 0 ms, the event is kept only as long as the limit's window.
        new TestLedger(store).consume({ ...charge([counter]), windowMs: 0 }, START_MS);
        const sweptMs = START_MS + 60_000 - 1 + backMs;
        for (const _ of new TestLedger(store).sweep(sweptMs));
        const verdict = new TestLedger(store).consume(charge([counter]), sweptMs - backMs);
        expect([backMs, verdict.allowed]).toEqual([backMs, allowed]);
      });
  });

  test("sweeps end however fast pages change: they checkpoint only the rows that the journal had at the start", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const rowsOf = (turn: number) =>
        Array.from({ length: 8 }, (_, i) => ({
          key: `user:${turn}-${i}`,
          slot: 0,
          expiresAtMs: START_MS + turn + 60_000,
          firstAtMs: START_MS + turn,
          lastAtMs: START_MS + turn,
          text: JSON.stringify({ v: 1, at: START_MS + turn, charged: [], events: [] }),
        }));
      let turn = 0;
      while (turn < 3) store.put(rowsOf(++turn));
      let steps = 0;
      for (const _ of new TestLedger(store).sweep(START_MS + turn)) {
        expect(++steps).toBeLessThan(10);
        store.put(rowsOf(++turn));
      }
      expect(steps).toBe(3);
      expect(store.checkpoint()).toBe(true);
    });
  });

  test("sweeps end however fast keys are added: they look only at the pages that were there at the start", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      const add = (from: number, count: number, atMs: number) => {
        for (let key = from; key < from + count; key++) ledger.consume(charge([ip(`ip:${10_000 + key}`)]), atMs);
      };
      add(0, 1_200, START_MS);
      const beganMs = START_MS + 60_000 + 2 * CLOCK_MARGIN_MS;
      let added = 1_200;
      let steps = 0;
      for (const _ of ledger.sweep(beganMs)) {
        expect(++steps).toBeLessThan(10);
        add(added, 600, beganMs + steps);
        added += 600;
      }
      const left = storage.sql.exec("SELECT min(last_at_ms) AS first, count(*) AS pages FROM pages_v1").one();
      expect(left).toEqual({ first: beganMs + 1, pages: added - 1_200 });
    });
  });

  test("keeps the earlier time if a call sets it between the steps of a sweep", async () => {
    const sweptWhileBanned = async (endsAtMs: number) => {
      const { id } = newObject();
      await inside(objects.get(id), (storage) => {
        const ledger = new TestLedger(new Store(storage));
        const windowMs = 240 * HOUR_MS;
        for (let key = 0; key < 1_000; key++)
          ledger.consume({ ...charge([caller(`user:${key}`)]), windowMs }, START_MS);
      });
      await abortAllDurableObjects();
      await runInDurableObject(objects.get(id), async (object) => {
        const swept = object.alarm();
        object.setOverride("user:other", { kind: "ban", reason: "r", ends: { atMs: endsAtMs } });
        await swept;
      });
      return alarmOf(objects.get(id));
    };
    expect(await sweptWhileBanned(START_MS + 2 * HOUR_MS)).toBe(START_MS + 2 * HOUR_MS + CLOCK_MARGIN_MS);
    expect(await sweptWhileBanned(START_MS + 999 * HOUR_MS)).toBe(START_MS + 240 * HOUR_MS + 2 * CLOCK_MARGIN_MS);
  });

  test("is set again by the next event once it is 10 minutes overdue, and not before", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([ip("ip:1")]));
    const dueMs = START_MS + HOUR_MS;
    vi.setSystemTime(dueMs + 600_000 - 1);
    await ask(stub, "consume", charge([ip("ip:1")]));
    expect(await alarmOf(stub)).toBe(dueMs);
    await abortAllDurableObjects();
    vi.setSystemTime(dueMs + 600_000);
    await ask(objects.get(stub.id), "consume", charge([ip("ip:1")]));
    expect(await alarmOf(objects.get(stub.id))).toBe(dueMs + 600_000 + HOUR_MS);
  });

  test("is set by the next event if it could not be set", async () => {
    const errors = vi.spyOn(console, "error").mockImplementation(() => {});
    const stub = newObject();
    const fault = vi.fn(() => {
      throw new Error("disk full");
    });
    await inside(stub, (storage) => void vi.spyOn(storage, "setAlarm").mockImplementation(fault));
    expect((await ask(stub, "consume", charge([ip("ip:1")]))).allowed).toBe(true);
    await inside(stub, (storage) => vi.mocked(storage.setAlarm).mockRestore());
    expect([fault.mock.calls.length, await alarmOf(stub)]).toEqual([1, null]);
    await ask(stub, "consume", charge([ip("ip:1")]));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS);
    expect(errors).toHaveBeenCalledTimes(1);
    errors.mockRestore();
  });

  test("keeps an event that was recorded shortly before it rang", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS - 1_000);
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS);
    await runDurableObjectAlarm(stub);
    expect((await ask(stub, "check", charge([ip("ip:1")]))).standings).toMatchObject([[{ used: 1 }]]);
    expect(await alarmOf(stub)).toBe(START_MS + 2 * HOUR_MS);
  });

  test("is deleted with everything else when the only key is forgotten", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    await stub.forget("user:u");
    expect(await countPages(stub)).toBeUndefined();
    expect(await alarmOf(stub)).toBeNull();
  });
});
