import { describe, expect, test } from "vitest";
import type { Call, Charge } from "../../src/object/protocol";
import { Store } from "../../src/object/store/store";
import { charge, inside, job, newObject, START_MS, TestLedger } from "./ledger";

describe("concurrent events", () => {
  const concurrent = (ledger: TestLedger, atMs = START_MS) => {
    const [[standing] = []] = ledger.check(charge([job("user:u")]), atMs).standings;
    return standing?.used;
  };

  test("come back after an eviction, from several pages, after releases, settles and rollbacks", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const charges = Array.from({ length: 200 }, () => charge([job("user:u", 1_000)], 3));
      for (const [i, charge] of charges.entries()) ledger.consume(charge, START_MS + i);
      const nowMs = START_MS + 200;
      for (const [i, charge] of charges.entries()) {
        if (i % 2 === 0) ledger.release(charge, nowMs);
        if (i % 3 === 0) ledger.settle({ ...charge, cost: 0 }, nowMs);
        if (i % 5 === 0) ledger.rollBack(charge, nowMs);
        if (i % 7 === 0) ledger.release(charge, nowMs);
      }
      const left = charges.filter((_, i) => i % 2 !== 0 && i % 5 !== 0 && i % 7 !== 0).length;
      for (const reader of [ledger, new TestLedger(store)]) {
        expect(concurrent(reader, nowMs)).toBe(left);
        // The last event that is not released is the 200th.
        expect(concurrent(reader, START_MS + 199 + 299_999)).toBe(1);
        expect(concurrent(reader, START_MS + 199 + 300_000)).toBe(0);
      }
    });
  });

  test("are counted by a concurrent limit that is new, even in the middle of a transaction", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const before = { ...job("user:u"), limits: [{ max: 1_000_000, windowMs: 3_600_000 }] };
      const ledger = new TestLedger(store);
      const released = charge([job("user:u")]);
      ledger.consume(released, START_MS);
      ledger.release(released, START_MS);
      const calls = [
        ...Array.from({ length: 60 }, (): Call => ({ method: "consume", question: charge([before]) })),
        { method: "check", question: charge([job("user:u", 100)]) } as Call,
        { method: "consume", question: charge([before]) } as Call,
      ];
      const results = new TestLedger(store).decide(calls, START_MS);
      expect(results.at(-2)).toMatchObject({ verdict: { standings: [[{ used: 60 }, { used: 61 }]] } });
      expect(concurrent(new TestLedger(store))).toBe(61);
    });
  });

  test("are counted even while no concurrent limit is declared", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      ledger.consume(charge([job("user:u")]), START_MS);
      const without = { ...job("user:u"), limits: [{ max: 1_000_000, windowMs: 3_600_000 }] };
      ledger.consume(charge([without]), START_MS);
      expect(concurrent(ledger)).toBe(2);
    });
  });

  test("leave with a charge that is rolled back, released or not", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const [released, unreleased] = [charge([job("user:u")], 2), charge([job("user:u")], 2)];
      for (const charge of [released, unreleased]) ledger.consume(charge, START_MS);
      ledger.release(released, START_MS);
      for (const [rolledBack, left] of [
        [released, 1],
        [unreleased, 0],
      ] as const) {
        ledger.rollBack(rolledBack, START_MS);
        for (const reader of [ledger, new TestLedger(store)]) expect(concurrent(reader)).toBe(left);
      }
    });
  });

  test("are stored in fields that older code does not read", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      const charges = ["a", "b", "c"].map((id) => ({ ...charge([job("user:u", 9)], 2), id }));
      for (const charge of charges) ledger.consume(charge, START_MS);
      ledger.release(charges[1] as Charge, START_MS);
      ledger.settle({ ...(charges[2] as Charge), cost: 1 }, START_MS);
      const page = JSON.parse(String(storage.sql.exec("SELECT events FROM pages_v1").one().events));
      expect(page.events).toEqual([
        [0, 0, 2, "a", "s", ["a"]],
        [0, 0, 2, "b", "", ["a"], 2, 1],
        [0, 0, 1, "c", "", ["a"], 2],
      ]);
    });
  });

  test("an unknown call fails and changes nothing", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      const event = charge([job("user:u")], 5);
      ledger.consume(event, START_MS);
      const [unknown] = ledger.decide([{ method: "finish", question: event } as unknown as Call], START_MS);
      expect(unknown).toMatchObject({ error: expect.stringContaining("finish") });
      expect(ledger.check(event, START_MS).standings).toMatchObject([[{ used: 1 }, { used: 5 }]]);
    });
  });
});
