import { env, runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import type { PageChange, PageRow } from "../../src/object/page-store";
import { JournalBudget } from "../../src/object/store/journal-budget";
import { Store } from "../../src/object/store/store";
import { Disk } from "../simulation/disk";
import type { Bindings } from "./target";

const objects = (env as unknown as Bindings).LIMITER_OBJECTS;

/** Works on the storage of a new object. */
const inside = (work: (storage: DurableObjectStorage) => void | Promise<void>) =>
  runInDurableObject(objects.getByName(crypto.randomUUID()), (_, { storage }) => work(storage));

const row = (key: string, slot: number, atMs: number, text = "x"): PageRow => ({
  key,
  slot,
  expiresAtMs: atMs + 60_000,
  firstAtMs: atMs,
  lastAtMs: atMs,
  text: JSON.stringify({ v: 1, ev: [text] }),
});
/** Room for two rows of the journal with 8 such pages each, and not for a third. */
const TWO_ROWS_CHARS = 900;
const rowsOf = (count: number, atMs = 0) => Array.from({ length: count }, (_, i) => row(`user:${i}`, 0, atMs));
/** An event that follows the page with this slot. None if there is no such page. */
function appendTo(pages: readonly PageRow[], slot: number, atMs: number): PageChange[] {
  return pages
    .filter((page) => page.slot === slot)
    .map((page) => {
      const events = `,["event at ${atMs}"]`;
      const text = `${page.text.slice(0, -2)}${events}]}`;
      return {
        ...page,
        text,
        lastAtMs: atMs,
        expiresAtMs: atMs + 60_000,
        appended: { length: page.text.length, events },
      };
    });
}
const countOf = (storage: DurableObjectStorage, table: string) =>
  Number(storage.sql.exec(`SELECT count(*) AS rows FROM ${table}`).one().rows);

/** Makes every write of this kind fail. The returned function ends that. */
const failing = (storage: DurableObjectStorage, write: string) => {
  storage.sql.exec(`CREATE TRIGGER full BEFORE ${write} BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
  return () => storage.sql.exec("DROP TRIGGER full");
};

describe("pages changed by one turn", () => {
  test("are one row each if they are few, and one row of the journal if they are many", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(7));
      expect(countOf(storage, "pages_v1")).toBe(7);
      store.put(rowsOf(8, 1));
      expect([countOf(storage, "pages_v1"), countOf(storage, "journal_v2")]).toEqual([7, 1]);
      const before = store.rowsWritten;
      store.put(rowsOf(100, 2));
      expect(store.rowsWritten - before).toBe(1);
    });
  });

  test("go to the journal if it holds one of them, however few they are", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(8));
      store.put([row("user:1", 0, 5, "newer")]);
      for (const reader of [store, new Store(storage)])
        expect([...reader.pages("user:1")]).toEqual([row("user:1", 0, 5, "newer")]);
    });
  });

  test("have one order within a millisecond, wherever each of them is held", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      const page = (slot: number) => row("user:0", slot, 0);
      const slots = () => [...store.pages("user:0")].map(({ slot }) => slot);
      store.put([page(2)]);
      store.put([page(3), page(0), ...rowsOf(8).slice(1)]);
      expect(slots()).toEqual([0, 2, 3]);
      store.put([page(1)]);
      expect(slots()).toEqual([0, 1, 2, 3]);
      while (store.checkpoint());
      expect(slots()).toEqual([0, 1, 2, 3]);
    });
  });

  test("overwrite the oldest row of a full journal, whose pages are checkpointed unless a later row holds them", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      store.put(rowsOf(8));
      store.put(rowsOf(8, 1));
      expect([[...store.pagesAfter("", 0, 1)].length, countOf(storage, "journal_v2")]).toEqual([0, 2]);
      const others = Array.from({ length: 8 }, (_, i) => row(`ip:${i}`, 0, 2));
      const before = store.rowsWritten;
      store.put(others);
      // The second row holds all pages of the oldest row.
      expect(store.rowsWritten - before).toBe(1);
      store.put(others);
      expect([countOf(storage, "pages_v1"), countOf(storage, "journal_v2")]).toEqual([8, 2]);
      expect([...new Store(storage).pages("user:3")]).toEqual([row("user:3", 0, 1)]);
    });
  });

  test("are several rows of the journal if one would be too long", async () => {
    await inside((storage) => {
      const long = Array.from({ length: 10 }, (_, i) => row(`user:${i}`, 0, 0, "y".repeat(90_000)));
      new Store(storage).put(long);
      expect(countOf(storage, "journal_v2")).toBe(5);
      const store = new Store(storage);
      for (const page of long) expect([...store.pages(page.key)]).toEqual([page]);
    });
  });

  test("are all stored, or none of them in storage or in memory", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      store.put(rowsOf(8));
      store.put(rowsOf(8, 1));
      failing(storage, "UPDATE ON journal_v2");
      const before = [...new Store(storage).pages("user:1")];
      const others = Array.from({ length: 8 }, (_, i) => row(`ip:${i}`, 0, 2));
      expect(() => store.put([...others, row("user:1", 0, 9)])).toThrow("disk full");
      for (const reader of [store, new Store(storage)]) {
        expect([...reader.pages("ip:1")]).toEqual([]);
        expect([...reader.pages("user:1")]).toEqual(before);
      }
    });
  });

  test("are all stored or none of them, if they take several rows of the journal", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(8));
      failing(storage, "INSERT ON journal_v2 WHEN NEW.number = 3");
      const long = Array.from({ length: 10 }, (_, i) => row(`ip:${i}`, 0, 1, "y".repeat(90_000)));
      expect(() => store.put(long)).toThrow("disk full");
      for (const reader of [store, new Store(storage)])
        for (const { key } of long) expect([...reader.pages(key)]).toEqual([]);
    });
  });

  test("are all stored or none of them, if they take the place of several rows of the journal", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      const [older, newer] = [rowsOf(16), rowsOf(16, 1)];
      store.put(older.slice(0, 8));
      store.put(older.slice(8));
      const mended = failing(storage, "UPDATE ON journal_v2");
      expect(() => store.put(newer)).toThrow("disk full");
      for (const reader of [store, new Store(storage)])
        for (const page of older) expect([...reader.pages(page.key)]).toEqual([page]);
      mended();
      store.put(newer);
      expect(countOf(storage, "journal_v2")).toBe(1);
      for (const reader of [store, new Store(storage)])
        for (const page of newer) expect([...reader.pages(page.key)]).toEqual([page]);
    });
  });

  test("are continued by a checkpoint, all of them or none, however many they are", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put(rowsOf(50));
      while (store.checkpoint());
      const changes = rowsOf(50).flatMap((page) => appendTo([page], 0, 1));
      store.put(changes);
      const expectContinued = () => {
        for (const reader of [store, new Store(storage)])
          for (const { appended: _, ...page } of changes) expect([...reader.pages(page.key)]).toEqual([page]);
      };
      const mended = failing(storage, "UPDATE ON pages_v1 WHEN NEW.key = 'user:49'");
      expect(() => store.checkpoint()).toThrow("disk full");
      expectContinued();
      mended();
      const before = store.rowsWritten;
      expect(store.checkpoint()).toBe(true);
      expect([store.rowsWritten - before, countOf(storage, "journal_v2")]).toEqual([51, 0]);
      expectContinued();
    });
  });

  test("that are due together are checkpointed with many writes, a few with each", async () => {
    await inside((storage) => {
      // Room for some 400 turns.
      const budget = new JournalBudget(400 * 16 * 52);
      const store = new Store(storage, budget);
      const turnOf = (turn: number, first: number) =>
        Array.from({ length: 16 }, (_, i) => row(`user:${first + i}`, 0, 1_000 + turn));
      const checkpointed: number[] = [];
      for (let turn = 0; turn < 600; turn++) {
        // Ten turns change 160 pages, and all later ones the first sixteen of them.
        store.put(turnOf(turn, turn < 10 ? 16 * turn : 0));
        expect(budget.heldChars).toBeLessThanOrEqual(budget.totalChars);
        checkpointed.push(countOf(storage, "sqlite_master WHERE name = 'pages_v1'") && countOf(storage, "pages_v1"));
      }
      expect(checkpointed.at(-1)).toBe(9 * 16);
      const more = checkpointed.map((count, turn) => count - (checkpointed[turn - 1] ?? 0));
      expect(Math.max(...more)).toBe(16 / 4);
      for (const reader of [store, new Store(storage)])
        expect([...reader.pages("user:159")]).toEqual([row("user:159", 0, 1_009)]);
    });
  });
});

describe("after a transaction that failed", () => {
  test("a table that it had created is created again by the next write, and is empty until then", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      // Several rows of the journal. The last is longer than a value may be.
      const others = Array.from({ length: 10 }, (_, i) => row(`ip:${i}`, 0, 1, "y".repeat(i < 9 ? 90_000 : 3_000_000)));
      expect(() => store.put(others)).toThrow("too big");
      expect(countOf(storage, "sqlite_master WHERE name = 'journal_v2'")).toBe(0);
      expect([...store.pages("ip:1")]).toEqual([]);
      expect(store.loadPage("ip:1", 0)).toBeUndefined();
      expect(store.pagesAfter("", 0, 10)).toEqual([]);
      store.put(others.slice(0, 9));
      store.put([row("user:new", 0, 2)]);
      for (const reader of [store, new Store(storage)]) {
        expect([...reader.pages("user:new")]).toEqual([row("user:new", 0, 2)]);
        expect([...reader.pages("ip:8")]).toEqual([others[8]]);
        expect([...reader.pages("ip:9")]).toEqual([]);
      }
    });
  });

  test("pages that were checkpointed before it failed have each event once", async () => {
    await inside((storage) => {
      const store = new Store(storage, TWO_ROWS_CHARS);
      const pages = rowsOf(8);
      store.put(pages);
      const appended = pages.flatMap((page) => appendTo([page], 0, 1));
      store.put(appended);
      const expected = appended.map(({ appended: _, ...page }) => page);
      const mended = failing(storage, "UPDATE ON journal_v2");
      const others = Array.from({ length: 8 }, (_, i) => row(`ip:${i}`, 0, 2));
      for (let i = 0; i < 2; i++) expect(() => store.put(others)).toThrow("disk full");
      expect(countOf(storage, "pages_v1")).toBe(8);
      mended();
      const isStored = () => {
        for (const reader of [store, new Store(storage)])
          expect(pages.flatMap(({ key }) => [...reader.pages(key)])).toEqual(expected);
      };
      isStored();
      store.put(others);
      isStored();
      while (store.checkpoint());
      isStored();
    });
  });

  test("a key that could not be deleted keeps all of its pages", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      store.put([row("user:1", 1, 0)]);
      store.put(rowsOf(8, 1));
      for (const write of ["DELETE ON pages_v1", "INSERT ON journal_v2"]) {
        const mended = failing(storage, write);
        expect(() => store.deleteKey("user:1")).toThrow("disk full");
        mended();
        for (const reader of [store, new Store(storage)])
          expect([...reader.pages("user:1")]).toEqual([row("user:1", 1, 0), row("user:1", 0, 1)]);
      }
      store.deleteKey("user:1");
      for (const reader of [store, new Store(storage)]) expect([...reader.pages("user:1")]).toEqual([]);
    });
  });

  test("overrides that ended are deleted by the next sweep, which learns their keys", async () => {
    await inside((storage) => {
      const { overrides } = new Store(storage);
      overrides.put("user:1", { endsAtMs: 10, text: "{}" });
      overrides.put("user:2", { endsAtMs: 20, text: "{}" });
      const mended = failing(storage, "DELETE ON overrides_v1");
      expect(() => overrides.deleteEnded(10)).toThrow("disk full");
      mended();
      expect(overrides.deleteEnded(10)).toEqual({ keys: ["user:1"], nextEndMs: 20 });
      expect(overrides.deleteEnded(20)).toEqual({ keys: ["user:2"], nextEndMs: undefined });
    });
  });

  test("an object that could not be emptied still has its pages", async () => {
    await inside(async (storage) => {
      let isBroken = true;
      const breakable = new Proxy(storage, {
        get(target, name) {
          if (name === "deleteAll" && isBroken) return () => Promise.reject(new Error("disk full"));
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
      const store = new Store(breakable);
      store.put(rowsOf(8));
      store.put([row("ip:1", 0, 0)]);
      await expect(store.deleteAll()).rejects.toThrow("disk full");
      expect([store.isEmpty, ...store.pages("user:1"), ...store.pages("ip:1")]).toEqual([
        false,
        row("user:1", 0, 0),
        row("ip:1", 0, 0),
      ]);
      isBroken = false;
      await store.deleteAll();
      expect([store.isEmpty, ...store.pages("user:1"), ...store.pages("ip:1")]).toEqual([true]);
      store.put(rowsOf(8, 1));
      expect([...new Store(storage).pages("user:1")]).toEqual([row("user:1", 0, 1)]);
    });
  });
});

describe("rows of journal_v1", () => {
  const entryOf = ({ key, slot, expiresAtMs, firstAtMs, lastAtMs, text }: PageRow) =>
    `["${key}",${slot},${expiresAtMs},${firstAtMs},${lastAtMs},${text}]`;

  test.each([0, TWO_ROWS_CHARS, 8_000_000])(
    "are read before those of journal_v2 and deleted by checkpoints, in a journal of %d characters",
    async (chars) => {
      await inside((storage) => {
        new Store(storage).put([row("user:0", 0, 0), row("user:1", 0, 0)]);
        storage.sql.exec(
          "CREATE TABLE journal_v1 (number INTEGER PRIMARY KEY, turn INTEGER NOT NULL, pages TEXT NOT NULL)",
        );
        const older = rowsOf(10, 1);
        storage.sql.exec("INSERT INTO journal_v1 VALUES (0, 5, ?)", `[${older.map(entryOf)}]`);
        storage.sql.exec("INSERT INTO journal_v1 VALUES (1, 6, ?)", `[["user:1",0],${entryOf(row("user:9", 0, 2))}]`);
        const store = new Store(storage, chars);
        let expected = [...older.filter(({ key }) => !["user:1", "user:9"].includes(key)), row("user:9", 0, 2)];
        const expectPages = () => {
          for (const reader of [store, new Store(storage)]) {
            expect([...reader.pages("user:1")]).toEqual([]);
            for (const page of expected) expect([...reader.pages(page.key)]).toEqual([page]);
          }
        };
        expectPages();
        for (let atMs = 3; atMs < 6; atMs++) {
          const changes = expected.flatMap((page) => appendTo([page], 0, atMs));
          store.put(changes);
          expected = changes.map(({ appended: _, ...page }) => page);
          expectPages();
        }
        while (store.checkpoint()) expectPages();
        expect([countOf(storage, "journal_v1"), countOf(storage, "journal_v2")]).toEqual([0, 0]);
      });
    },
  );
});

describe("the journals of one isolate share its memory", () => {
  const TURNS = 12;
  const ROW_CHARS = 401;

  /** A new object, with what the tests do to its store. */
  function newObject(name: string) {
    const stub = objects.getByName(crypto.randomUUID());
    let store: Store | undefined;
    const on = <T>(work: (store: Store, storage: DurableObjectStorage) => T, budget?: JournalBudget) =>
      runInDurableObject(stub, (_, { storage }) => {
        if (budget || !store) store = new Store(storage, budget);
        return work(store, storage);
      });
    const rowsAt = (turn: number) => Array.from({ length: 8 }, (_, i) => row(`user:${name}-${turn + 10}-${i}`, 0, 10));
    return {
      open: (budget: JournalBudget) => on(() => {}, budget),
      fill: (turn: number) => on((store) => store.put(rowsAt(turn))),
      full: (isFull: boolean) =>
        on((_, { sql }) =>
          sql.exec(
            isFull
              ? "CREATE TRIGGER full BEFORE DELETE ON journal_v2 BEGIN SELECT RAISE(ABORT, 'disk full'); END"
              : "DROP TRIGGER full",
          ),
        ),
      journalRows: () => on((_, storage) => countOf(storage, "journal_v2")),
      /** How many pages of the first `turns` turns come back unchanged. */
      held: (turns: number) =>
        on((store) => {
          const rows = Array.from({ length: turns }, (_, turn) => rowsAt(turn)).flat();
          return rows.filter((row) => [...store.pages(row.key)].some(({ text }) => text === row.text)).length;
        }),
    };
  }

  test("together they hold no more than the budget and the minimum of each, and lose no page", async () => {
    const budget = new JournalBudget(10 * ROW_CHARS, 6 * ROW_CHARS, 2 * ROW_CHARS);
    const all = ["a", "b", "c", "d"].map(newObject);
    for (const object of all) await object.open(budget);
    for (let turn = 0; turn < TURNS; turn++) for (const object of all) await object.fill(turn);
    expect(budget.heldChars).toBeGreaterThan(8 * ROW_CHARS);
    expect(budget.heldChars).toBeLessThanOrEqual((10 + 2 * 2) * ROW_CHARS);
    for (const object of all) {
      expect(await object.journalRows()).toBeGreaterThanOrEqual(2);
      expect(await object.held(TURNS)).toBe(TURNS * 8);
    }
  });

  test("the first holds up to the maximum of a journal, later ones what is left, or the minimum", async () => {
    const budget = new JournalBudget(10 * ROW_CHARS, 6 * ROW_CHARS, ROW_CHARS);
    const rows: number[] = [];
    for (const object of ["a", "b", "c"].map(newObject)) {
      await object.open(budget);
      for (let turn = 0; turn < TURNS; turn++) await object.fill(turn);
      rows.push(await object.journalRows());
    }
    expect(rows).toEqual([6, 4, 1]);
  });

  test("a journal that wakes without room is checkpointed, and is still read if it can't be", async () => {
    const [first, second, third] = [newObject("a"), newObject("b"), newObject("c")];
    const budget = new JournalBudget(6 * ROW_CHARS, 6 * ROW_CHARS, ROW_CHARS);
    await first.open(budget);
    for (let turn = 0; turn < TURNS; turn++) await first.fill(turn);
    for (let turn = 0; turn < 5; turn++) for (const object of [second, third]) await object.fill(turn);
    await third.full(true);

    const errors = vi.spyOn(console, "error").mockImplementation(() => {});
    for (const object of [second, third]) await object.open(budget);
    expect(errors).toHaveBeenCalledTimes(1);
    errors.mockRestore();
    expect([await second.journalRows(), await third.journalRows()]).toEqual([1, 5]);
    for (const object of [second, third]) expect(await object.held(5)).toBe(5 * 8);
    await third.full(false);
    await third.fill(5);
    expect(await third.journalRows()).toBe(1);
  });
});

describe("pages of several keys", () => {
  const keys = Array.from({ length: 120 }, (_, i) => `user:${i}`);

  test("are those of each key, in the table, in the journal or in neither", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      expect([...store.pagesOf(keys)].map(([key, pages]) => [key, ...pages])).toEqual(keys.map((key) => [key]));
      for (const key of keys.slice(0, 70)) store.put([row(key, 1, 1), row(key, 0, 2)]);
      store.put(keys.slice(60, 100).map((key) => row(key, 2, 3)));
      const together = new Map(store.pagesOf(keys));
      expect([...together.keys()]).toEqual(keys);
      for (const key of keys) expect([...(together.get(key) ?? [])]).toEqual([...store.pages(key)]);
    });
  });

  test("leave out the keys that have too many, and never a part of a key's pages", async () => {
    await inside((storage) => {
      const store = new Store(storage);
      for (const key of keys.slice(0, 20))
        for (let slot = 0; slot < (key === "user:19" ? 300 : 15); slot++) store.put([row(key, slot, slot)]);
      const together = new Map(store.pagesOf(keys.slice(0, 20)));
      expect(together.size).toBe(11);
      expect(together.has("user:19")).toBe(false);
      for (const [key, pages] of together) expect([key, [...pages].length]).toEqual([key, 15]);
    });
  });
});

test("a store holds what a plain table of rows would, with a journal that is full, empty or absent", async () => {
  const keys = ["user:a", "user:b", "ip:1", "ip:2"];
  const place = fc.record({ key: fc.constantFrom(...keys), slot: fc.nat({ max: 5 }) });
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ put: fc.array(place, { minLength: 1, maxLength: 20, size: "max" }) }) },
    { weight: 16, arbitrary: fc.record({ append: fc.array(place, { minLength: 1, maxLength: 20, size: "max" }) }) },
    { weight: 1, arbitrary: fc.record({ deleteKey: fc.constantFrom(...keys) }) },
    { weight: 1, arbitrary: fc.record({ checkpoint: fc.nat({ max: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ reopen: fc.constant(true) }) },
  );
  await inside(async (storage) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60, size: "max" }),
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
              for (const each of [store, disk]) each.put(rows);
            } else if ("append" in step) {
              const changes = step.append.flatMap(({ key, slot }) => appendTo([...disk.pages(key)], slot, ++atMs));
              const places = new Map(changes.map((change) => [`${change.key} ${change.slot}`, change]));
              for (const each of [store, disk]) each.put([...places.values()]);
            } else if ("deleteKey" in step) for (const each of [store, disk]) each.deleteKey(step.deleteKey);
            else if ("checkpoint" in step) for (let i = 0; i < step.checkpoint; i++) store.checkpoint();
            else store = new Store(storage, chars);
            const together = new Map(store.pagesOf([...keys, "ip:3"]));
            for (const key of keys) {
              const expected = [...disk.pages(key)];
              expect([...(together.get(key) ?? [])]).toEqual(expected);
              expect([...store.pages(key)]).toEqual(expected);
              for (let slot = 0; slot <= 5; slot++) expect(store.loadPage(key, slot)).toBe(disk.loadPage(key, slot));
            }
            expect(store.isEmpty).toBe(disk.rows.size === 0);
          }
          while (store.checkpoint());
          expect(countOf(storage, "sqlite_master WHERE name = 'journal_v2'") && countOf(storage, "journal_v2")).toBe(0);
          for (const key of keys) expect([...new Store(storage).pages(key)]).toEqual([...disk.pages(key)]);
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });
});
