import { describe, expect, test } from "vitest";
import type { Call, Charge } from "../../src/object/protocol";
import { Store } from "../../src/object/store/store";
import { charge, inside, job, newObject, START_MS, TestLedger } from "./ledger";

describe("what is under way", () => {
  const underWay = (ledger: TestLedger, atMs = START_MS) => {
    const [[standing] = []] = ledger.check(charge([job("user:u")]), atMs).standings;
    return standing?.used;
  };

  test("comes back after an eviction, from pages that turned, whatever was released, settled and undone on them", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const charges = Array.from({ length: 200 }, () => charge([job("user:u", 1_000)], 3));
      for (const [i, one] of charges.entries()) ledger.consume(one, START_MS + i);
      const nowMs = START_MS + 200;
      for (const [i, one] of charges.entries()) {
        if (i % 2 === 0) ledger.release(one, nowMs);
        if (i % 3 === 0) ledger.settle({ ...one, cost: 0 }, nowMs);
        if (i % 5 === 0) ledger.rollBack(one, nowMs);
        if (i % 7 === 0) ledger.release(one, nowMs);
      }
      const left = charges.filter((_, i) => i % 2 !== 0 && i % 5 !== 0 && i % 7 !== 0).length;
      for (const reader of [ledger, new TestLedger(store)]) {
        expect(underWay(reader, nowMs)).toBe(left);
        // The last one that is still under way is the 200th.
        expect(underWay(reader, START_MS + 199 + 299_999)).toBe(1);
        expect(underWay(reader, START_MS + 199 + 300_000)).toBe(0);
      }
    });
  });

  test("is counted as well by a limit that is asked about for the first time, in the middle of a transaction too", async () => {
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
      // Opened anew, it has no log of what is under way until the check asks for it.
      const outcomes = new TestLedger(store).decide(calls, START_MS);
      expect(outcomes.at(-2)).toMatchObject({ verdict: { standings: [[{ used: 60 }, { used: 61 }]] } });
      expect(underWay(new TestLedger(store))).toBe(61);
    });
  });

  test("goes on being counted while no limit asks about it", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      ledger.consume(charge([job("user:u")]), START_MS);
      const without = { ...job("user:u"), limits: [{ max: 1_000_000, windowMs: 3_600_000 }] };
      ledger.consume(charge([without]), START_MS);
      expect(underWay(ledger)).toBe(2);
    });
  });

  test("is taken back with its charge, released before or not", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const [one, other] = [charge([job("user:u")], 2), charge([job("user:u")], 2)];
      for (const charge of [one, other]) ledger.consume(charge, START_MS);
      ledger.release(one, START_MS);
      for (const [undone, left] of [
        [one, 1],
        [other, 0],
      ] as const) {
        ledger.rollBack(undone, START_MS);
        for (const reader of [ledger, new TestLedger(store)]) expect(underWay(reader)).toBe(left);
      }
    });
  });

  test("is stored in what older code does not look at", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new TestLedger(new Store(storage));
      const charges = ["a", "b", "c"].map((id) => ({ ...charge([job("user:u", 9)], 2), id }));
      for (const one of charges) ledger.consume(one, START_MS);
      ledger.release(charges[1] as Charge, START_MS);
      ledger.settle({ ...(charges[2] as Charge), cost: 1 }, START_MS);
      const page = JSON.parse(String(storage.sql.exec("SELECT events FROM pages_v1").one().events));
      expect(page.events).toEqual([
        [0, 0, 2, "a", "s", ["a"]],
        [0, 0, 2, "b", "s", ["a"], 2, 1],
        [0, 0, 1, "c", "s", ["a"], 2],
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
