import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { type Limit, longestWindowMs } from "../../src/core/limit";
import { Ledger } from "../../src/object/ledger";
import type { LimiterObject } from "../../src/object/object";
import type { AskedCounter, Call, Charge } from "../../src/object/protocol";
import { type PageStore, Store } from "../../src/object/store";
import { Oracle } from "../core/oracle";
import { Disk } from "../simulation/disk";
import { ask, type Bindings } from "./target";

const objects = (env as unknown as Bindings).LIMITER_OBJECTS;
/** In the future: alarms go by the real clock, and must not ring by themselves. */
const START_MS = Date.UTC(2040, 0, 1);
const HOUR_MS = 3_600_000;

const caller = (key: string, max = 5): AskedCounter => ({
  layer: "caller",
  key,
  limits: [
    { max, windowMs: 60_000 },
    { max: 12 * max, windowMs: 3_600_000 },
  ],
});
/** So many under way at once, and an hour's cost that is never used up. */
const job = (key: string, max = 2): AskedCounter => ({
  layer: "job",
  key,
  limits: [
    { kind: "concurrent", max, windowMs: 300_000 },
    { max: 1_000_000, windowMs: 3_600_000 },
  ],
});
const ip = (key: string, max = 30): AskedCounter => ({ layer: "ip", key, limits: [{ max, windowMs: 60_000 }] });

function charge(counters: AskedCounter[], cost = 1): Charge {
  const keepMs = Math.max(...counters.map(({ limits }) => longestWindowMs(limits)));
  return { id: crypto.randomUUID(), subject: "s", attempt: "a", keepMs, policy: "chat", cost, counters };
}

function newObject(): DurableObjectStub<LimiterObject> {
  return objects.getByName(crypto.randomUUID());
}

const inside = <T>(stub: DurableObjectStub<LimiterObject>, work: (storage: DurableObjectStorage) => T | Promise<T>) =>
  runInDurableObject(stub, (_, state) => work(state.storage));

const countPages = (stub: DurableObjectStub<LimiterObject>) =>
  inside(stub, ({ sql }) =>
    sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'pages_v1'").toArray().length === 0
      ? undefined
      : Number(sql.exec("SELECT count(*) AS pages FROM pages_v1").one().pages),
  );

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("rows written", () => {
  /** Rows that `work` writes, on a ledger of its own over the storage of an object that has been used before. */
  const rowsOf = (work: (ledger: Ledger, rows: () => number) => void) =>
    inside(newObject(), (storage) => {
      const store = new Store(storage);
      new Ledger(store).consume(charge([caller("user:earlier")]), START_MS);
      let before = store.rowsWritten;
      work(new Ledger(store), () => {
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
      new Ledger(store).consume(charge([caller("user:u")]), START_MS);
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
      ledger.undo(admitted, START_MS);
      expect(rows()).toBe(2);
      ledger.undo(admitted, START_MS);
      expect(rows()).toBe(0);
    });
  });

  test("an idempotency key costs no row more, and a replay none where nothing else is asked", async () => {
    await rowsOf((ledger, rows) => {
      const alone = { ...charge([caller("user:u"), ip("ip:1")]), alone: true };
      expect(ledger.consume(alone, START_MS)).toMatchObject({ allowed: true, replayed: false });
      expect(rows()).toBe(2);
      expect(ledger.consume({ ...alone, attempt: "b" }, START_MS)).toMatchObject({ allowed: true, replayed: true });
      expect(rows()).toBe(0);
    });
  });

  test("a replay by another attempt writes its claim once, one by the same attempt nothing", async () => {
    await rowsOf((ledger, rows) => {
      const first = charge([caller("user:u")]);
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

  test("a release writes one row a key that has a limit on what is under way, and none when it is repeated", async () => {
    await rowsOf((ledger, rows) => {
      const one = charge([job("user:u"), job("org:o"), ip("ip:1")]);
      ledger.consume(one, START_MS);
      rows();
      expect(ledger.release({ event: one }, START_MS).found).toBe(true);
      expect(rows()).toBe(2);
      expect(ledger.release({ event: one }, START_MS).found).toBe(true);
      expect(ledger.release({ event: { ...one, id: "nope" } }, START_MS).found).toBe(false);
      expect(ledger.release({ event: { ...one, policy: "nope" } }, START_MS).found).toBe(false);
      expect(ledger.consume({ ...one, alone: true }, START_MS)).toMatchObject({ allowed: true });
      expect(rows()).toBe(0);
    });
  });

  test("storage does not grow with time: expired pages are overwritten", async () => {
    const stub = newObject();
    await inside(stub, (storage) => {
      const ledger = new Ledger(new Store(storage));
      // 360 events an hour: some nine pages at any time.
      for (let i = 0; i < 10_000; i++) ledger.consume(charge([caller("user:u", 30)]), START_MS + i * 10_000);
    });
    expect(await countPages(stub)).toBeLessThanOrEqual(12);
  });
});

describe("storage", () => {
  test("an object that was only asked leaves nothing behind", async () => {
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

  test("of 500 at once exactly the limit is admitted", async () => {
    const stub = newObject();
    const answers = await Promise.all(
      Array.from({ length: 500 }, () => ask(stub, "consume", charge([caller("user:u", 37)]))),
    );
    expect(answers.filter(({ allowed }) => allowed)).toHaveLength(37);
  });

  test("a long log comes back whole after an eviction", async () => {
    const stub = newObject();
    const asked = ip("ip:1", 1_000_000);
    await inside(stub, (storage) => {
      const ledger = new Ledger(new Store(storage));
      for (let i = 0; i < 20_000; i++) ledger.consume(charge([asked]), START_MS);
    });
    await abortAllDurableObjects();
    const again = objects.get(stub.id);
    expect((await ask(again, "check", charge([asked]))).standings).toMatchObject([[{ used: 20_000 }]]);
    expect(await again.inspect("ip:1", [{ policy: "chat", ...asked }], 3)).toMatchObject([
      { total: 20_000, events: [{}, {}, {}] },
    ]);
  });

  test("memory is bounded: accounts beyond the bound are dropped, and lose nothing", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new Ledger(new Store(storage), 20_000);
      for (let round = 1; round <= 5; round++)
        for (let key = 0; key < 100; key++)
          expect(ledger.consume(charge([caller(`user:${key}`)]), START_MS).standings[0]?.[0]?.used).toBe(round);
      for (let key = 0; key < 100; key++)
        expect(ledger.consume(charge([caller(`user:${key}`)]), START_MS).allowed).toBe(false);
      expect(ledger.memoryInUse).toBeLessThanOrEqual(20_000);
    });
  });

  test("a write that fails charges nothing, in memory neither", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      ledger.consume(charge([caller("user:u"), ip("ip:1")]), START_MS);
      storage.sql.exec(
        "CREATE TRIGGER full BEFORE UPDATE ON pages_v1 WHEN new.key = 'ip:1' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
      );
      expect(() => ledger.consume(charge([caller("user:u"), ip("ip:1")]), START_MS)).toThrow(/disk full/);
      storage.sql.exec("DROP TRIGGER full");
      for (const reader of [ledger, new Ledger(store)])
        expect(reader.check(charge([caller("user:u"), ip("ip:1")]), START_MS).standings).toMatchObject([
          [{ used: 1 }, { used: 1 }],
          [{ used: 1 }],
        ]);
    });
  });

  test("a charge put back is as if it had never been, wherever its page is", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      const charges = Array.from({ length: 200 }, (_, i) => charge([caller("user:u", 1_000)], 1 + (i % 3)));
      for (const one of charges) ledger.consume(one, START_MS);
      const total = charges.reduce((sum, { cost }) => sum + cost, 0);
      const back = [charges[0], charges[57], charges[199]] as Charge[];
      for (const one of back) ledger.undo(one, START_MS);
      const left = total - back.reduce((sum, { cost }) => sum + cost, 0);
      for (const reader of [ledger, new Ledger(store)])
        expect(reader.check(charge([caller("user:u", 1_000)]), START_MS).standings).toMatchObject([
          [{ used: left }, { used: left }],
        ]);
    });
  });
});

describe("calls that arrive together", () => {
  const consumes = (counters: AskedCounter[][], cost = 1): Call[] =>
    counters.map((counters) => ({ method: "consume", question: charge(counters, cost) }));

  test("write a page once, however many of them changed it", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      ledger.consume(charge([caller("user:u", 100)]), START_MS);
      const before = store.rowsWritten;
      const same = consumes(Array.from({ length: 20 }, () => [caller("user:u", 100)]));
      ledger.decide(same, START_MS);
      expect(store.rowsWritten - before).toBe(1);
      const others = consumes(Array.from({ length: 40 }, (_, i) => [caller(`user:${i}`), ip("ip:1", 100)]));
      ledger.decide(others, START_MS);
      // Many pages are one row of the journal, whose table is made with the first one.
      expect(store.rowsWritten - before).toBe(1 + 1 + 2);
      for (const reader of [ledger, new Ledger(store)]) {
        expect(reader.check(charge([caller("user:u", 100)]), START_MS).standings).toMatchObject([[{ used: 21 }, {}]]);
        expect(reader.check(charge([ip("ip:1", 100)]), START_MS).standings).toMatchObject([[{ used: 40 }]]);
      }
    });
  });

  test("are answered in their order, by an object too", async () => {
    const stub = newObject();
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, () => ask(stub, "consume", charge([caller("user:u")]))),
    );
    expect(outcomes.map(({ allowed }) => allowed)).toEqual([true, true, true, true, true, false, false, false]);
  });

  test("fail each alone: the others are decided and stored", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      ledger.consume(charge([caller("user:bad")]), START_MS);
      storage.sql.exec(
        "CREATE TRIGGER full BEFORE UPDATE ON pages_v1 WHEN new.key = 'user:bad' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
      );
      const calls = consumes([[caller("user:a")], [caller("user:bad")], [caller("user:b"), ip("ip:1")]]);
      const outcomes = ledger.decide(calls, START_MS);
      expect(outcomes).toMatchObject([
        { answer: { allowed: true, replayed: false } },
        { error: expect.stringContaining("disk full") },
        { answer: { allowed: true, replayed: false } },
      ]);
      for (const reader of [ledger, new Ledger(store)])
        for (const [key, used] of [["user:a", 1] as const, ["user:bad", 1] as const, ["user:b", 1] as const])
          expect([key, reader.check(charge([caller(key)]), START_MS).standings[0]?.[0]?.used]).toEqual([key, used]);
    });
  });

  test("are decided as one at a time, over pages that turn, ids that are used again, settles, releases and undos", async () => {
    const calls = fc.array(
      fc.record({
        method: fc.constantFrom("consume", "consume", "consume", "check", "undo", "settle", "release"),
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
        fc.property(calls, (asked) => {
          for (const key of ["user:0", "user:1", "ip:1"]) for (const store of stores) store.deleteKey(key);
          const ledgers = stores.map((store) => new Ledger(store as PageStore)) as [Ledger, Ledger];
          let atMs = START_MS;
          for (let i = 0; i < asked.length; ) {
            const group = asked.slice(i, i + 1 + (asked[i]?.size ?? 0));
            i += group.length;
            atMs += group[0]?.laterMs ?? 0;
            const calls = group.map(({ method, id, key, cost, attempt }): Call => {
              const counters = [caller(`user:${key}`, 300), job(`user:${key}`, 40), ip("ip:1", 300)];
              const question = { ...charge(counters, cost), id: `id${id}`, attempt };
              return { method, question: method === "release" ? { event: question } : question } as Call;
            });
            const [together, alone] = ledgers;
            const one = calls.map((call) => alone.decide([call], atMs)[0]);
            expect(together.decide(calls, atMs)).toEqual(one);
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

describe("claims", () => {
  const used = (ledger: Ledger) => ledger.check(charge([caller("user:u")]), START_MS).standings[0]?.[0]?.used;

  /** On a ledger over real storage, and on one that read it back. */
  const onBoth = (work: (reopened: () => Ledger) => void) =>
    inside(newObject(), (storage) => {
      const store = new Store(storage);
      work(() => new Ledger(store));
    });

  test("an event is taken back only when the last attempt that relies on it lifts its claim", async () => {
    await onBoth((reopened) => {
      const first = charge([caller("user:u")], 2);
      const second = { ...first, attempt: "b" };
      reopened().consume(first, START_MS);
      reopened().consume(second, START_MS);
      reopened().undo(first, START_MS);
      reopened().undo(first, START_MS);
      expect(used(reopened())).toBe(2);
      reopened().undo(second, START_MS);
      expect(used(reopened())).toBe(0);
      expect(reopened().consume(second, START_MS)).toMatchObject({ allowed: true, replayed: false });
    });
  });

  test("an undo by an attempt that has no claim takes nothing back", async () => {
    await onBoth((reopened) => {
      const first = charge([caller("user:u")]);
      reopened().consume(first, START_MS);
      reopened().undo({ ...first, attempt: "late" }, START_MS);
      expect(used(reopened())).toBe(1);
    });
  });

  test("with more attempts than are remembered, the event stays for good", async () => {
    await onBoth((reopened) => {
      const ledger = reopened();
      const first = charge([caller("user:u")]);
      const attempts = Array.from({ length: 40 }, (_, i) => ({ ...first, attempt: `attempt${i}` }));
      for (const attempt of attempts) ledger.consume(attempt, START_MS);
      for (const attempt of attempts) ledger.undo(attempt, START_MS);
      expect(used(ledger)).toBe(1);
    });
  });
});

describe("what is under way", () => {
  const running = (ledger: Ledger, atMs = START_MS) => {
    const [[standing] = []] = ledger.check(charge([job("user:u")]), atMs).standings;
    return standing?.used;
  };

  test("comes back after an eviction, from pages that turned, whatever was released, settled and undone on them", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      const charges = Array.from({ length: 200 }, () => charge([job("user:u", 1_000)], 3));
      for (const [i, one] of charges.entries()) ledger.consume(one, START_MS + i);
      const nowMs = START_MS + 200;
      for (const [i, one] of charges.entries()) {
        if (i % 2 === 0) ledger.release({ event: one }, nowMs);
        if (i % 3 === 0) ledger.settle({ ...one, cost: 0 }, nowMs);
        if (i % 5 === 0) ledger.undo(one, nowMs);
        if (i % 7 === 0) ledger.release({ event: one }, nowMs);
      }
      const left = charges.filter((_, i) => i % 2 !== 0 && i % 5 !== 0 && i % 7 !== 0).length;
      for (const reader of [ledger, new Ledger(store)]) {
        expect(running(reader, nowMs)).toBe(left);
        // The last one that is still under way is the 200th.
        expect(running(reader, START_MS + 199 + 299_999)).toBe(1);
        expect(running(reader, START_MS + 199 + 300_000)).toBe(0);
      }
    });
  });

  test("is counted as well by a limit that is asked about for the first time, in the middle of a transaction too", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const before = { ...job("user:u"), limits: [{ max: 1_000_000, windowMs: 3_600_000 }] };
      const ledger = new Ledger(store);
      const released = charge([job("user:u")]);
      ledger.consume(released, START_MS);
      ledger.release({ event: released }, START_MS);
      const calls = [
        ...Array.from({ length: 60 }, (): Call => ({ method: "consume", question: charge([before]) })),
        { method: "check", question: charge([job("user:u", 100)]) } as Call,
        { method: "consume", question: charge([before]) } as Call,
      ];
      // Opened anew, it has no log of what is under way until the check asks for it.
      const outcomes = new Ledger(store).decide(calls, START_MS);
      expect(outcomes.at(-2)).toMatchObject({ answer: { standings: [[{ used: 60 }, { used: 61 }]] } });
      expect(running(new Ledger(store))).toBe(61);
    });
  });

  test("goes on being counted while no limit asks about it", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new Ledger(new Store(storage));
      ledger.consume(charge([job("user:u")]), START_MS);
      const without = { ...job("user:u"), limits: [{ max: 1_000_000, windowMs: 3_600_000 }] };
      ledger.consume(charge([without]), START_MS);
      expect(running(ledger)).toBe(2);
    });
  });

  test("takes no memory where no limit counts it", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const weight = (asked: AskedCounter) => {
        const ledger = new Ledger(store);
        for (let i = 0; i < 50; i++) ledger.consume(charge([asked]), START_MS);
        return ledger.memoryInUse;
      };
      const windows = job("user:a", 1_000).limits.slice(1);
      const [without, withOne] = [{ ...job("user:a"), limits: windows }, job("user:b", 1_000)].map(weight);
      expect((withOne ?? 0) - (without ?? 0)).toBe(500 + 50 * 24);
    });
  });

  test("is taken back with its charge, released before or not", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      const [one, other] = [charge([job("user:u")], 2), charge([job("user:u")], 2)];
      for (const charge of [one, other]) ledger.consume(charge, START_MS);
      ledger.release({ event: one }, START_MS);
      for (const [undone, left] of [
        [one, 1],
        [other, 0],
      ] as const) {
        ledger.undo(undone, START_MS);
        for (const reader of [ledger, new Ledger(store)]) expect(running(reader)).toBe(left);
      }
    });
  });

  test("is stored in what older code does not look at", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new Ledger(new Store(storage));
      const charges = ["a", "b", "c"].map((id) => ({ ...charge([job("user:u", 9)], 2), id }));
      for (const one of charges) ledger.consume(one, START_MS);
      ledger.release({ event: charges[1] as Charge }, START_MS);
      ledger.settle({ ...(charges[2] as Charge), cost: 1 }, START_MS);
      const page = JSON.parse(String(storage.sql.exec("SELECT events FROM pages_v1").one().events));
      expect(page.events).toEqual([
        [0, 0, 2, "a", "s", ["a"]],
        [0, 0, 2, "b", "s", ["a"], 2, 1],
        [0, 0, 1, "c", "s", ["a"], 2],
      ]);
    });
  });

  test("is released by no object that takes a release for a settle, as older ones do: it fails", async () => {
    await inside(newObject(), (storage) => {
      const ledger = new Ledger(new Store(storage));
      const one = charge([job("user:u")], 5);
      ledger.consume(one, START_MS);
      const [taken] = ledger.decide([{ method: "settle", question: { event: one } } as unknown as Call], START_MS);
      expect(taken).toMatchObject({ error: expect.stringContaining("TypeError") });
      const [unknown] = ledger.decide([{ method: "finish", question: one } as unknown as Call], START_MS);
      expect(unknown).toMatchObject({ error: expect.stringContaining("finish") });
      expect(ledger.check(one, START_MS).standings).toMatchObject([[{ used: 1 }, { used: 5 }]]);
    });
  });
});

test("an idempotency key is found on whichever page its event is, before and after an eviction", async () => {
  await inside(newObject(), (storage) => {
    const store = new Store(storage);
    const writer = new Ledger(store);
    const charges = Array.from({ length: 300 }, () => charge([ip("ip:1", 1_000)], 2));
    for (const one of charges) writer.consume(one, START_MS);
    for (const ledger of [writer, new Ledger(store)])
      for (const one of charges) {
        expect(ledger.consume({ ...one, attempt: "b" }, START_MS)).toMatchObject({ allowed: true, replayed: true });
        expect(ledger.settle({ ...one, cost: 1 }, START_MS).found).toBe(true);
        expect(ledger.consume({ ...one, subject: "another", cost: 1_000 }, START_MS).allowed).toBe(false);
      }
    expect(new Ledger(store).check(charge([ip("ip:1", 1_000)]), START_MS).standings).toMatchObject([[{ used: 300 }]]);
  });
});

test.each([0, 30])(
  "an id that was forgotten and used again is a replay from then on, %i events later",
  async (between) => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledgers = [new Ledger(store), new Ledger(new Disk())];
      const asked = ip("ip:1", 1_000);
      const once = charge([asked]);
      const forgottenAtMs = START_MS + 60_000;
      for (const ledger of ledgers) {
        ledger.consume(once, START_MS);
        for (let i = 0; i < between; i++) ledger.consume(charge([asked]), START_MS);
        expect(ledger.consume({ ...once, attempt: "b" }, forgottenAtMs - 1).replayed).toBe(true);
        expect(ledger.consume({ ...once, attempt: "c" }, forgottenAtMs).replayed).toBe(false);
        for (let i = 0; i < between; i++) ledger.consume(charge([asked]), forgottenAtMs);
        const again = ledger.consume({ ...once, attempt: "d" }, forgottenAtMs + 1);
        expect([again.replayed, again.standings[0]?.[0]?.used]).toEqual([true, 1 + between]);
        ledger.settle({ ...once, cost: 0 }, forgottenAtMs + 1);
        expect(ledger.check(charge([asked]), forgottenAtMs + 1).standings[0]?.[0]?.used).toBe(between);
      }
      expect(new Ledger(store).consume({ ...once, attempt: "e" }, forgottenAtMs + 2).replayed).toBe(true);
    });
  },
);
test("an idempotency key that is used again after its window is remembered anew", async () => {
  await inside(newObject(), (storage) => {
    const ledger = new Ledger(new Store(storage));
    const one = { ...charge([ip("ip:1")]), keepMs: 60_000 };
    const replayed = [0, 60_000, 60_001, 119_999, 120_000].map(
      (ms) => ledger.consume({ ...one, attempt: `at ${ms}` }, START_MS + ms).replayed,
    );
    expect(replayed).toEqual([false, false, true, true, false]);
    expect(ledger.settle({ ...one, cost: 7 }, START_MS + 120_000).standings).toMatchObject([[{ used: 7 }]]);
  });
});

describe("time", () => {
  test("does not run backwards when an alarm has emptied the object", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    vi.setSystemTime(START_MS + HOUR_MS);
    await runDurableObjectAlarm(stub);
    vi.setSystemTime(START_MS + HOUR_MS - 30_000);
    expect((await ask(stub, "check", charge([caller("user:u")]))).atMs).toBe(START_MS + HOUR_MS);
  });

  test("does not run backwards behind an event that was put back, which had taken the place of an expired one", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store, undefined, 1);
      const asked = ip("ip:1", 1);
      ledger.consume(charge([asked]), START_MS);
      const back = charge([asked]);
      ledger.consume(back, START_MS + 60_000);
      ledger.undo(back, START_MS + 60_000);
      // The first event is gone, and would count again by a clock that is behind.
      const again = new Ledger(store, undefined, 1);
      expect(again.consume(charge([asked]), START_MS + 59_999)).toMatchObject({ atMs: START_MS + 60_000 });
    });
  });

  test("a page that was emptied by an undo and written again comes back in its order", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      const asked = ip("ip:1", 1_000_000);
      for (let i = 0; i < 100; i++) {
        const atMs = START_MS + i * 1_000;
        const back = charge([asked]);
        ledger.consume(back, atMs);
        ledger.undo(back, atMs);
        ledger.consume(charge([asked]), atMs);
        const warm = ledger.check(charge([asked]), atMs + 1);
        // A clock that is behind tells whether the newest event is known for what it is.
        expect(new Ledger(store).check(charge([asked]), atMs + 1)).toEqual(warm);
        expect(new Ledger(store).check(charge([asked]), START_MS).atMs).toBe(atMs);
      }
    });
  });

  test("pages that begin in the same millisecond come back in their order", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new Ledger(store);
      const asked = ip("ip:1", 1_000_000);
      // A clock that was set back stands still: many events share an instant, over pages whose slots are used again.
      for (let round = 0; round < 8; round++) {
        for (let i = 0; i < 100; i++) ledger.consume(charge([asked]), START_MS + round * 25_000);
        for (let i = 0; i < 10; i++) ledger.consume(charge([asked]), START_MS + round * 25_000 + i);
        const atMs = START_MS + round * 25_000 + 30;
        const warm = ledger.check(charge([asked]), atMs);
        expect(new Ledger(store).check(charge([asked]), atMs)).toEqual(warm);
      }
    });
  });

  test("a clock that jumps back changes nothing, before and after an eviction", async () => {
    const stub = newObject();
    vi.setSystemTime(START_MS + 30_000);
    await ask(stub, "consume", charge([caller("user:u")], 5));
    vi.setSystemTime(START_MS);
    expect(await ask(stub, "consume", charge([caller("user:u")]))).toMatchObject({
      allowed: false,
      atMs: START_MS + 30_000,
      standings: [[{ fitsInMs: 60_000 }, { fitsInMs: 0 }]],
    });
    await abortAllDurableObjects();
    const again = objects.get(stub.id);
    expect(await ask(again, "check", charge([caller("user:u")]))).toMatchObject({
      allowed: false,
      atMs: START_MS + 30_000,
    });
    vi.setSystemTime(START_MS + 89_999);
    expect((await ask(again, "consume", charge([caller("user:u")]))).allowed).toBe(false);
    vi.setSystemTime(START_MS + 90_000);
    expect((await ask(again, "consume", charge([caller("user:u")]))).allowed).toBe(true);
  });
});

describe("the alarm", () => {
  const alarmOf = (stub: DurableObjectStub<LimiterObject>) => inside(stub, (storage) => storage.getAlarm());

  test("is set once, for when the first event is forgotten, and not again by those that follow", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    expect(await alarmOf(stub)).toBe(START_MS + 3_600_000);
    vi.setSystemTime(START_MS + 1_000);
    await ask(stub, "consume", charge([caller("user:u")]));
    await abortAllDurableObjects();
    await ask(objects.get(stub.id), "consume", charge([caller("user:u")]));
    expect(await alarmOf(objects.get(stub.id))).toBe(START_MS + 3_600_000);
  });

  test("comes earlier for a key that is forgotten earlier", async () => {
    const stub = newObject();
    await ask(stub, "consume", { ...charge([caller("user:u")]), keepMs: 24 * HOUR_MS });
    expect(await alarmOf(stub)).toBe(START_MS + 24 * HOUR_MS);
    await ask(stub, "consume", charge([caller("user:v")]));
    expect(await alarmOf(stub)).toBe(START_MS + HOUR_MS);
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

  test("forgets what no window can see, keeps the rest, and comes again for it", async () => {
    const stub = newObject();
    await ask(stub, "consume", { ...charge([caller("user:u")]), keepMs: 24 * HOUR_MS });
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await countPages(stub)).toBe(1);
    expect(await alarmOf(stub)).toBe(START_MS + 24 * HOUR_MS);
  });

  test("empties an idle object wholly, which can then be used as if it were new", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u"), ip("ip:1")]));
    vi.setSystemTime(START_MS + 3_600_000);
    await runDurableObjectAlarm(stub);
    expect(await countPages(stub)).toBeUndefined();
    expect(await alarmOf(stub)).toBeNull();
    expect(await ask(stub, "consume", charge([caller("user:u")], 5))).toMatchObject({ allowed: true });
    expect(await alarmOf(stub)).toBe(START_MS + 7_200_000);
  });

  test("sweeps an object of many keys step by step, and answers between the steps", async () => {
    const stub = newObject();
    await inside(stub, (storage) => {
      const ledger = new Ledger(new Store(storage));
      for (let key = 0; key < 2_000; key++)
        ledger.consume(charge([key % 2 ? caller(`user:${key}`) : ip(`ip:${key}`)]), START_MS);
      const steps = ledger.sweep(START_MS + 60_000);
      for (let step = 0; step < 4; step++) {
        expect(steps.next().done).toBe(false);
        expect(ledger.consume(charge([caller("user:1999")]), START_MS + 60_000).allowed).toBe(true);
      }
      expect(steps.next()).toEqual({ done: true, value: expect.any(Number) });
    });
    expect(await countPages(stub)).toBe(1_000);
  });

  test("an event recorded while the alarm was on its way is not forgotten", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS - 1_000);
    await ask(stub, "consume", charge([ip("ip:1")]));
    vi.setSystemTime(START_MS + HOUR_MS);
    await runDurableObjectAlarm(stub);
    expect((await ask(stub, "check", charge([ip("ip:1")]))).standings).toMatchObject([[{ used: 1 }]]);
    expect(await alarmOf(stub)).toBe(START_MS + 2 * HOUR_MS);
  });

  test("forgetting the only key empties the object", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    await stub.forget("user:u");
    expect(await countPages(stub)).toBeUndefined();
    expect(await alarmOf(stub)).toBeNull();
  });
});

test("over real storage, many keys, evictions and a clock that jumps both ways, decides as the oracle does", async () => {
  /** Full again and again, on one page a key; and so wide that events go over many pages. */
  const narrow: Limit[] = [
    { max: 7, windowMs: 2_000 },
    { max: 40, windowMs: 20_000 },
    { kind: "concurrent", max: 9, windowMs: 20_000 },
  ];
  const wide: Limit[] = [
    { max: 60, windowMs: 2_000 },
    { max: 2_000, windowMs: 200_000 },
    { kind: "concurrent", max: 130, windowMs: 200_000 },
  ];
  const step = fc.record({
    key: fc.nat({ max: 3 }),
    other: fc.nat({ max: 3 }),
    cost: fc.integer({ min: 1, max: 4 }),
    advanceMs: fc.oneof(fc.constantFrom(0, 0, 1, 1_999, 2_000), fc.integer({ min: -3_000, max: 4_000 })),
    afterwards: fc.oneof(
      { weight: 12, arbitrary: fc.constant("nothing") },
      { weight: 8, arbitrary: fc.constantFrom("release", "settle") },
      { weight: 4, arbitrary: fc.constantFrom("undo", "evict", "sweep", "forget") },
    ),
    /** Which of the last admitted is released or settled. */
    back: fc.nat({ max: 40 }),
  });
  await inside(newObject(), (storage) => {
    fc.assert(
      fc.property(
        fc.constantFrom(narrow, wide),
        fc.array(step, { minLength: 300, maxLength: 300, size: "max" }),
        (limits, history) => {
          storage.sql.exec("DROP TABLE IF EXISTS pages_v1");
          let ledger = new Ledger(new Store(storage));
          const oracles = new Map<string, Oracle>();
          const oracleOf = (key: string) => oracles.get(key) ?? (oracles.set(key, new Oracle()).get(key) as Oracle);
          const admitted: Charge[] = [];
          let wallMs = START_MS;
          let lastMs = 0;
          for (const { key, other, cost, advanceMs, afterwards, back } of history) {
            wallMs += advanceMs;
            const keys = [...new Set([`user:${key}`, `ip:${other}`])];
            const one = charge(
              keys.map((key) => ({ layer: "caller", key, limits })),
              cost,
            );
            const answer = ledger.consume(one, wallMs);
            // After an eviction the last time used is that of the newest event, which is all that exactness needs.
            expect(answer.atMs).toBeGreaterThanOrEqual(wallMs);
            expect(answer.atMs).toBeGreaterThanOrEqual(lastMs);
            lastMs = answer.atMs;
            expect(answer.allowed).toBe(
              keys.every((key) => limits.every((limit) => oracleOf(key).fits(cost, answer.atMs, limit))),
            );
            if (answer.allowed) {
              admitted.push(one);
              for (const key of keys) oracleOf(key).record(answer.atMs, cost, longestWindowMs(limits), one.id);
            }
            keys.forEach((key, k) => {
              expect(answer.standings[k]).toEqual(
                limits.map((limit) => oracleOf(key).standing(limit, cost, answer.atMs)),
              );
            });
            const changed = admitted.at(-1 - back);
            if (changed && afterwards === "release") ledger.release({ event: changed }, wallMs);
            if (changed && afterwards === "settle") ledger.settle({ ...changed, cost: cost - 1 }, wallMs);
            for (const { key } of changed?.counters ?? [])
              for (const event of oracleOf(key).events)
                if (event.id === changed?.id && event.atMs > lastMs - longestWindowMs(limits)) {
                  if (afterwards === "release") event.released = true;
                  if (afterwards === "settle") event.cost = cost - 1;
                }
            if (afterwards === "undo" && answer.allowed) {
              ledger.undo(one, wallMs);
              admitted.pop();
              for (const key of keys) oracleOf(key).events.pop();
            }
            if (afterwards === "evict") {
              ledger = new Ledger(new Store(storage));
              lastMs = 0;
            }
            if (afterwards === "sweep") for (const _ of ledger.sweep(wallMs));
            if (afterwards === "forget") {
              ledger.forget(`user:${key}`);
              oracles.delete(`user:${key}`);
            }
          }
        },
      ),
      { numRuns: 30 },
    );
  });
}, 60_000);
