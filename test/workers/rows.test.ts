import { describe, expect, test } from "vitest";
import { Store } from "../../src/object/store/store";
import { caller, charge, countPages, inside, ip, job, newObject, START_MS, TestLedger } from "./ledger";

describe("rows written", () => {
  /** Rows that `work` writes, on a ledger of its own over the storage of an object that has been used before. */
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

  test("an admitted decision writes one row a key, also when two layers count by it", async () => {
    await rowsOf((ledger, rows) => {
      ledger.consume(charge([caller("ip:1"), ip("ip:1")]), START_MS);
      expect(rows()).toBe(1);
      ledger.consume(charge([caller("user:u"), ip("ip:2")]), START_MS);
      expect(rows()).toBe(2);
    });
  });

  test("never more than one row a key, over pages that fill, turn and are used again", async () => {
    await rowsOf((ledger, rows) => {
      for (let i = 0; i < 3_000; i++) {
        const { allowed } = ledger.consume(charge([caller("user:u", 1_000)]), START_MS + i * 10_000);
        expect([allowed, rows()]).toEqual([true, 1]);
      }
    });
  });

  test("the very first write to an object makes its table, which is billed as two rows more", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      new TestLedger(store).consume(charge([caller("user:u")]), START_MS);
      expect(store.rowsWritten).toBe(3);
    });
  });

  test("a check, a denial and a look at a key write none", async () => {
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

  test("putting a charge back writes one row a key, and none when there is nothing to put back", async () => {
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

  test("an idempotency key costs no row more, and a replay none where nothing else is asked", async () => {
    await rowsOf((ledger, rows) => {
      const alone = { ...charge([caller("user:u"), ip("ip:1")]), isOnlyPart: true };
      expect(ledger.consume(alone, START_MS)).toMatchObject({ allowed: true, replayed: false });
      expect(rows()).toBe(2);
      expect(ledger.consume({ ...alone, attempt: "b" }, START_MS)).toMatchObject({ allowed: true, replayed: true });
      expect(rows()).toBe(0);
    });
  });

  test("a replay by another attempt writes its claim once, one by the same attempt nothing", async () => {
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

  test("settling writes one row a key, and none when the cost is what it was", async () => {
    await rowsOf((ledger, rows) => {
      const one = charge([caller("user:u"), ip("ip:1")], 3);
      ledger.consume(one, START_MS);
      rows();
      expect(ledger.settle({ ...one, cost: 1 }, START_MS).found).toBe(true);
      expect(rows()).toBe(2);
      expect(ledger.settle({ ...one, cost: 1 }, START_MS).found).toBe(true);
      expect(ledger.settle({ ...one, id: "nope", cost: 9 }, START_MS).found).toBe(false);
      expect(rows()).toBe(0);
    });
  });

  test("a release writes one row a key, whatever limits are declared so far, and none when it is repeated", async () => {
    await rowsOf((ledger, rows) => {
      const one = charge([job("user:u"), job("org:o"), ip("ip:1")]);
      ledger.consume(one, START_MS);
      rows();
      expect(ledger.release(one, START_MS).found).toBe(true);
      expect(rows()).toBe(3);
      expect(ledger.release(one, START_MS).found).toBe(true);
      expect(ledger.release({ ...one, id: "nope" }, START_MS).found).toBe(false);
      expect(ledger.release({ ...one, policy: "nope" }, START_MS).found).toBe(false);
      expect(ledger.consume({ ...one, isOnlyPart: true }, START_MS)).toMatchObject({ allowed: true });
      expect(rows()).toBe(0);
    });
  });

  test("storage does not grow with time: expired pages are overwritten", async () => {
    const stub = newObject();
    await inside(stub, (storage) => {
      const ledger = new TestLedger(new Store(storage));
      // 360 events an hour, kept for a minute longer: some ten pages at any time.
      for (let i = 0; i < 10_000; i++) ledger.consume(charge([caller("user:u", 30)]), START_MS + i * 10_000);
    });
    expect(await countPages(stub)).toBeLessThanOrEqual(13);
  });
});
