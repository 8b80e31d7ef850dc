import fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { PageStore } from "../../src/object/page-store";
import type { Call, Counter } from "../../src/object/protocol";
import { Store } from "../../src/object/store/store";
import { Disk } from "../simulation/disk";
import { caller, charge, inside, ip, job, newObject, START_MS, TestLedger } from "./ledger";
import { ask } from "./target";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("calls that arrive together", () => {
  const consumes = (counters: Counter[][], cost = 1): Call[] =>
    counters.map((counters) => ({ method: "consume", question: charge(counters, cost) }));

  test("write a page once, however many of them change it", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      ledger.consume(charge([caller("user:u", 100)]), START_MS);
      const before = store.rowsWritten;
      const same = consumes(Array.from({ length: 20 }, () => [caller("user:u", 100)]));
      ledger.decide(same, START_MS);
      expect(store.rowsWritten - before).toBe(1);
      const others = consumes(Array.from({ length: 40 }, (_, i) => [caller(`user:${i}`), ip("ip:1", 100)]));
      ledger.decide(others, START_MS);
      // Many pages are one row of the journal. Its table is created with the first row.
      expect(store.rowsWritten - before).toBe(1 + 1 + 2);
      for (const reader of [ledger, new TestLedger(store)]) {
        expect(reader.check(charge([caller("user:u", 100)]), START_MS).standings).toMatchObject([[{ used: 21 }, {}]]);
        expect(reader.check(charge([ip("ip:1", 100)]), START_MS).standings).toMatchObject([[{ used: 40 }]]);
      }
    });
  });

  test("are decided in their order by an object", async () => {
    const stub = newObject();
    const verdicts = await Promise.all(
      Array.from({ length: 8 }, () => ask(stub, "consume", charge([caller("user:u")]))),
    );
    expect(verdicts.map(({ allowed }) => allowed)).toEqual([true, true, true, true, true, false, false, false]);
  });

  test("fail alone, and the others are decided and stored", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      ledger.consume(charge([caller("user:bad")]), START_MS);
      storage.sql.exec(
        "CREATE TRIGGER full BEFORE UPDATE ON pages_v1 WHEN new.key = 'user:bad' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
      );
      const calls = consumes([[caller("user:a")], [caller("user:bad")], [caller("user:b"), ip("ip:1")]]);
      const results = ledger.decide(calls, START_MS);
      expect(results).toMatchObject([
        { verdict: { allowed: true, replayed: false } },
        { error: expect.stringContaining("disk full") },
        { verdict: { allowed: true, replayed: false } },
      ]);
      for (const reader of [ledger, new TestLedger(store)])
        for (const [key, used] of [["user:a", 1] as const, ["user:bad", 1] as const, ["user:b", 1] as const])
          expect([key, reader.check(charge([caller(key)]), START_MS).standings[0]?.[0]?.used]).toEqual([key, used]);
    });
  });

  test("are decided as if one at a time, over several pages, reused ids, settles, releases and rollbacks", async () => {
    const calls = fc.array(
      fc.record({
        method: fc.constantFrom("consume", "consume", "consume", "check", "rollBack", "settle", "release"),
        id: fc.nat({ max: 150 }),
        key: fc.nat({ max: 1 }),
        cost: fc.integer({ min: 1, max: 2 }),
        attempt: fc.constantFrom("a", "b"),
        size: fc.nat({ max: 40 }),
        laterMs: fc.constantFrom(0, 0, 1_000, 700_000),
      }),
      { minLength: 250, maxLength: 400 },
    );
    await inside(newObject(), (storage) => {
      const stores = [new Store(storage), new Disk()] as const;
      fc.assert(
        fc.property(calls, (history) => {
          for (const key of ["user:0", "user:1", "ip:1"]) for (const store of stores) store.deleteKey(key);
          const ledgers = stores.map((store) => new TestLedger(store as PageStore)) as [TestLedger, TestLedger];
          let atMs = START_MS;
          for (let i = 0; i < history.length; ) {
            const group = history.slice(i, i + 1 + (history[i]?.size ?? 0));
            i += group.length;
            atMs += group[0]?.laterMs ?? 0;
            const calls = group.map(({ method, id, key, cost, attempt }): Call => {
              const counters = [caller(`user:${key}`, 300), job(`user:${key}`, 40), ip("ip:1", 300)];
              const question = { ...charge(counters, cost), id: `id${id}`, attempt };
              return { method, question } as Call;
            });
            const [together, oneByOne] = ledgers;
            const expected = calls.map((call) => oneByOne.decide([call], atMs)[0]);
            expect(together.decide(calls, atMs)).toEqual(expected);
          }
          const rows = (store: PageStore) =>
            ["user:0", "user:1", "ip:1"].map((key) => [...store.pages(key)].map(({ text }) => text));
          expect(rows(stores[0])).toEqual(rows(stores[1]));
        }),
        { numRuns: 15 },
      );
    });
  });
});
