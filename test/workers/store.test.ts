import { env, runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Row } from "../../src/object/page-table";
import { Store } from "../../src/object/store";
import { Disk } from "../simulation/disk";
import type { Bindings } from "./target";

const objects = (env as unknown as Bindings).LIMITER_OBJECTS;

/** On the storage of an object that nobody used before. */
const inside = (work: (storage: DurableObjectStorage) => void | Promise<void>) =>
  runInDurableObject(objects.getByName(crypto.randomUUID()), (_, { storage }) => work(storage));

const row = (key: string, slot: number, atMs: number, text = "x"): Row => ({
  key,
  slot,
  expiresAtMs: atMs + 60_000,
  firstAtMs: atMs,
  lastAtMs: atMs,
  text: JSON.stringify({ v: 1, text }),
});
/** Two rows of the journal with eight such pages each have room, a third one has not. */
const TWO_ROWS_CHARS = 900;
const rowsOf = (count: number, atMs = 0) => Array.from({ length: count }, (_, i) => row(`user:${i}`, 0, atMs));
const countOf = (storage: DurableObjectStorage, table: string) =>
  Number(storage.sql.exec(`SELECT count(*) AS rows FROM ${table}`).one().rows);

describe("pages changed by one turn", () => {
  test("are a row each when they are few, and one row of the journal when they are many", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(7));
      expect(countOf(storage, "pages_v1")).toBe(7);
      store.put(rowsOf(8, 1));
      expect([countOf(storage, "pages_v1"), countOf(storage, "journal_v1")]).toEqual([7, 1]);
      const before = store.rowsWritten;
      store.put(rowsOf(100, 2));
      expect(store.rowsWritten - before).toBe(1);
    });
  });

  test("go where their newest version is, however few: one that the journal holds is written there", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(8));
      store.put([row("user:1", 0, 5, "newer")]);
      for (const reader of [store, new Store(storage)])
        expect([...reader.pages("user:1")]).toEqual([row("user:1", 0, 5, "newer")]);
    });
  });

  test("of one millisecond have one order, wherever each of them is held", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      const page = (slot: number) => row("user:0", slot, 0);
      const slots = () => [...store.pages("user:0")].map(({ slot }) => slot);
      store.put([page(2)]);
      store.put([page(3), page(0), ...rowsOf(8).slice(1)]);
      expect(slots()).toEqual([0, 2, 3]);
      store.put([page(1)]);
      expect(slots()).toEqual([0, 1, 2, 3]);
      while (store.retire());
      expect(slots()).toEqual([0, 1, 2, 3]);
    });
  });

  test("overwrite the journal's oldest row when it is full, and what no later one holds moves to its table", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      store.put(rowsOf(8));
      store.put(rowsOf(8, 1));
      expect([[...store.pagesAfter("", 0, 1)].length, countOf(storage, "journal_v1")]).toEqual([0, 2]);
      const others = Array.from({ length: 8 }, (_, i) => row(`ip:${i}`, 0, 2));
      const before = store.rowsWritten;
      store.put(others);
      // The oldest row's pages are all in the second one.
      expect(store.rowsWritten - before).toBe(1);
      store.put(others);
      expect([countOf(storage, "pages_v1"), countOf(storage, "journal_v1")]).toEqual([8, 2]);
      expect([...new Store(storage).pages("user:3")]).toEqual([row("user:3", 0, 1)]);
    });
  });

  test("are more rows of the journal where one would be too long", async () => {
    await inside((storage) => {
      const long = Array.from({ length: 10 }, (_, i) => row(`user:${i}`, 0, 0, "y".repeat(90_000)));
      new Store(storage).put(long);
      expect(countOf(storage, "journal_v1")).toBe(5);
      const store = new Store(storage);
      for (const one of long) expect([...store.pages(one.key)]).toEqual([one]);
    });
  });

  test("are all stored or none of them, and then nothing is held in memory either", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      store.put(rowsOf(8));
      store.put(rowsOf(8, 1));
      storage.sql.exec("CREATE TRIGGER full BEFORE UPDATE ON journal_v1 BEGIN SELECT RAISE(ABORT, 'disk full'); END");
      const before = [...new Store(storage).pages("user:1")];
      const others = Array.from({ length: 8 }, (_, i) => row(`ip:${i}`, 0, 2));
      expect(() => store.put([...others, row("user:1", 0, 9)])).toThrow("disk full");
      for (const reader of [store, new Store(storage)]) {
        expect([...reader.pages("ip:1")]).toEqual([]);
        expect([...reader.pages("user:1")]).toEqual(before);
      }
    });
  });
});

test("with a journal that is full, empty, or not there, a store holds what a table of rows would", async () => {
  const keys = ["user:a", "user:b", "ip:1", "ip:2"];
  const place = fc.record({ key: fc.constantFrom(...keys), slot: fc.nat({ max: 5 }) });
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ put: fc.array(place, { minLength: 1, maxLength: 20 }) }) },
    { weight: 1, arbitrary: fc.record({ deleteKey: fc.constantFrom(...keys) }) },
    { weight: 1, arbitrary: fc.record({ retire: fc.nat({ max: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ reopen: fc.constant(true) }) },
  );
  await inside(async (storage) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.constantFrom(0, 300, 1_500, 8_000_000),
        async (steps, chars) => {
          let store = new Store(storage, chars);
          await store.deleteAll();
          const disk = new Disk();
          let atMs = 0;
          for (const step of steps) {
            if ("put" in step) {
              const places = new Map(step.put.map(({ key, slot }) => [`${key} ${slot}`, { key, slot }]));
              const rows = [...places.values()].map(({ key, slot }) => row(key, slot, ++atMs));
              for (const one of [store, disk]) one.put(rows);
            } else if ("deleteKey" in step) for (const one of [store, disk]) one.deleteKey(step.deleteKey);
            else if ("retire" in step) for (let i = 0; i < step.retire; i++) store.retire();
            else store = new Store(storage, chars);
            for (const key of keys) {
              const expected = [...disk.pages(key)];
              expect([...store.pages(key)]).toEqual(expected);
              for (let slot = 0; slot <= 5; slot++) expect(store.loadPage(key, slot)).toBe(disk.loadPage(key, slot));
            }
            expect(store.isEmpty).toBe(disk.rows.size === 0);
          }
          while (store.retire());
          expect(countOf(storage, "sqlite_master WHERE name = 'journal_v1'") && countOf(storage, "journal_v1")).toBe(0);
          for (const key of keys) expect([...new Store(storage).pages(key)]).toEqual([...disk.pages(key)]);
        },
      ),
      { numRuns: 60 },
    );
  });
});
