import { describe, expect, test } from "vitest";
import { Store } from "../../src/object/store/store";
import { caller, charge, countPages, inside, ip, job, newObject, START_MS, TestLedger } from "./ledger";

describe("rows written", () => {
  /** Runs `work` on a new ledger over an object that was used before. `rows` counts the rows written since its last call. */
  const rowsOf = (work: (ledger: TestLedger, rows: () => number) => void) =>
    inside(newObject(), (storage) => {
      const store = new Store(storage);
      new TestLedger(store).consume(charge([caller("user:earlier")]), START_MS);
      let before = store.rowsWritten;
      work(new TestLedger(store), () => {
        const rows = store.rowsWritten - before;
        before = store.rowsWritten;
        return rows;
      });
    });

  test("an admission writes one row a key, even if two layers count by the key", async () => {
    await rowsOf((ledger, rows) => {
      ledger.consume(charge([caller("ip:1"), ip("ip:1")]), START_MS);
      expect(rows()).toBe(1);
      ledger.consume(charge([caller("user:u"), ip("ip:2")]), START_MS);
      expect(rows()).toBe(2);
    });
  });

  test("an admission never writes more than one row a key, over pages that fill and slots that are used again", async () => {
    await rowsOf((ledger, rows) => {
      for (let i = 0; i < 3_000; i++) {
        const { allowed } = ledger.consume(charge([caller("user:u", 1_000)]), START_MS + i * 10_000);
        expect([allowed, rows()]).toEqual([true, 1]);
      }
    });
  });

  test("a key that is read before each decision has short rows, which do not spill, and one in memory has long rows", async () => {
    const longest = (isRead: boolean) =>
      inside(newObject(), (storage) => {
        let ledger = new TestLedger(new Store(storage));
        for (let i = 0; i < 60; i++) {
          if (isRead) ledger = new TestLedger(new Store(storage));
          ledger.consume(charge([caller("user:u", 1_000)]), START_MS + i);
        }
        const row = storage.sql.exec("SELECT count(*) AS rows, max(length(events)) AS chars FROM pages_v1").one();
        return [Number(row.rows), Number(row.chars)] as const;
      });
    const [short, shortChars] = await longest(true);
    const [long, longChars] = await longest(false);
    expect(shortChars).toBeLessThan(950);
    expect(longChars).toBeGreaterThan(1_900);
    expect([short, long]).toEqual([5, 2]);
  });

  test("the first write to an object creates its table, which is billed as 2 rows more", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      new TestLedger(store).consume(charge([caller("user:u")]), START_MS);
      expect(store.rowsWritten).toBe(3);
    });
  });

  test("a check, a denial and an inspection write no row", async () => {
    await rowsOf((ledger, rows) => {
      ledger.consume(charge([caller("user:u")], 5), START_MS);
      rows();
      ledger.check(charge([caller("user:u")]), START_MS);
      ledger.check(charge([caller("user:never-seen")]), START_MS);
      expect(ledger.consume(charge([caller("user:u")]), START_MS).allowed).toBe(false);
      expect(ledger.consume(charge([caller("user:other"), caller("user:u")]), START_MS).allowed).toBe(false);
      ledger.inspect("user:u", [{ policy: "chat", ...caller("user:u") }], 100, START_MS);
      expect(rows()).toBe(0);
    });
  });

  test("a rollback writes one row a key, and none if there is no charge", async () => {
    await rowsOf((ledger, rows) => {
      const admitted = charge([caller("user:u"), ip("ip:1")]);
      ledger.consume(admitted, START_MS);
      rows();
      ledger.rollBack(admitted, START_MS);
      expect(rows()).toBe(2);
      ledger.rollBack(admitted, START_MS);
      expect(rows()).toBe(0);
    });
  });

  test("an idempotency key costs no extra row, and a replay in a single part writes none", async () => {
    await rowsOf((ledger, rows) => {
      const only = { ...charge([caller("user:u"), ip("ip:1")]), isOnlyPart: true };
      expect(ledger.consume(only, START_MS)).toMatchObject({ allowed: true, replayed: false });
      expect(rows()).toBe(2);
      expect(ledger.consume({ ...only, attempt: "b" }, START_MS)).toMatchObject({ allowed: true, replayed: true });
      expect(rows()).toBe(0);
    });
  });

  test("a replay by another attempt writes its claim once, a replay by the same attempt nothing", async () => {
    await rowsOf((ledger, rows) => {
      const first = { ...charge([caller("user:u")]), isOnlyPart: false };
      ledger.consume(first, START_MS);
      rows();
      for (const [attempt, replayed, written] of [
        ["a", false, 0],
        ["b", true, 1],
        ["b", true, 0],
      ] as const) {
        expect(ledger.consume({ ...first, attempt }, START_MS)).toMatchObject({ allowed: true, replayed });
        expect(rows()).toBe(written);
      }
    });
  });

  test("a settle writes one row a key, and none if the cost stays the same", async () => {
    await rowsOf((ledger, rows) => {
      const event = charge([caller("user:u"), ip("ip:1")], 3);
      ledger.consume(event, START_MS);
      rows();
      expect(ledger.settle({ ...event, cost: 1 }, START_MS).found).toBe(true);
      expect(rows()).toBe(2);
      expect(ledger.settle({ ...event, cost: 1 }, START_MS).found).toBe(true);
      expect(ledger.settle({ ...event, id: "nope", cost: 9 }, START_MS).found).toBe(false);
      expect(rows()).toBe(0);
    });
  });

  test("a release writes one row a key, whatever its limits, and none if it is repeated", async () => {
    await rowsOf((ledger, rows) => {
      const event = charge([job("user:u"), job("org:o"), ip("ip:1")]);
      ledger.consume(event, START_MS);
      rows();
      expect(ledger.release(event, START_MS).found).toBe(true);
      expect(rows()).toBe(3);
      expect(ledger.release(event, START_MS).found).toBe(true);
      expect(ledger.release({ ...event, id: "nope" }, START_MS).found).toBe(false);
      expect(ledger.release({ ...event, policy: "nope" }, START_MS).found).toBe(false);
      expect(ledger.consume({ ...event, isOnlyPart: true }, START_MS)).toMatchObject({ allowed: true });
      expect(rows()).toBe(0);
    });
  });

  test("storage does not grow with time, since expired pages are overwritten", async () => {
    const stub = newObject();
    await inside(stub, (storage) => {
      const ledger = new TestLedger(new Store(storage));
      // 360 events an hour, kept for 1 minute longer, are about 10 pages at any time.
      for (let i = 0; i < 10_000; i++) ledger.consume(charge([caller("user:u", 30)]), START_MS + i * 10_000);
    });
    expect(await countPages(stub)).toBeLessThanOrEqual(13);
  });
});
