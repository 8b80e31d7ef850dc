import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Book } from "../../src/counting/book";
import { noLatencies, observe } from "../../src/counting/latencies";
import type { Sums } from "../../src/counting/protocol";
import { noSignIns } from "../../src/counting/sign-ins";
import type { StatsObject } from "../../src/counting/stats-object";
import { StatsStore } from "../../src/counting/stats-store";
import type { DecisionOutcome } from "../../src/counting/tally";
import type { Bindings } from "./target";

const objects = (env as unknown as Bindings).LIMITER_STATS;
/** In the future, since alarms use the real clock and must not ring by themselves. */
const START_MS = Date.UTC(2040, 0, 1);
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const newObject = () => objects.getByName(crypto.randomUUID());
/** A new stub: a stub whose object was evicted keeps failing. */
const newStub = (stub: DurableObjectStub<StatsObject>) => objects.get(stub.id);

function sums(outcome: DecisionOutcome, count: number, key?: string): Sums {
  const latencies = noLatencies();
  for (let i = 0; i < count; i++) observe(latencies, 3);
  const deniedKeys = key === undefined ? [] : [{ item: `chat\ncaller\n${key}`, count, error: 0 }];
  return { tallies: new Map([["chat", { [outcome]: count }]]), latencies, deniedKeys };
}

const counted = async (stub: DurableObjectStub<StatsObject>, minutes = 1_440) =>
  (await stub.recent(minutes)).minutes.map(({ atMs, tallies }) => [(atMs - START_MS) / MINUTE_MS, tallies.get("chat")]);

/** The rows of the table. Undefined without a table. */
const stored = (stub: DurableObjectStub<StatsObject>) =>
  runInDurableObject(stub, (_, { storage: { sql } }) =>
    sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'stats_v1'").toArray().length === 0
      ? undefined
      : sql.exec<{ kind: string; body: string }>("SELECT kind, body FROM stats_v1 ORDER BY kind, slot").toArray(),
  );

const alarmMs = (stub: DurableObjectStub<StatsObject>) =>
  runInDurableObject(stub, (_, state) => state.storage.getAlarm());

const written = (stub: DurableObjectStub<StatsObject>) =>
  vi.waitFor(async () => expect(await stored(stub)).toBeDefined(), { interval: 5 });

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("sums", () => {
  test("are returned by the minute in which they came, for as many minutes as are requested", async () => {
    const stub = newObject();
    await stub.add(sums("allowed", 2));
    vi.setSystemTime(START_MS + MINUTE_MS - 1);
    await stub.add(sums("denied", 1));
    vi.setSystemTime(START_MS + 3 * MINUTE_MS);
    await stub.add(sums("allowed", 4));
    expect(await counted(stub)).toEqual([
      [0, { allowed: 2, denied: 1 }],
      [3, { allowed: 4 }],
    ]);
    expect(await counted(stub, 4)).toHaveLength(2);
    expect(await counted(stub, 3)).toEqual([[3, { allowed: 4 }]]);
    vi.setSystemTime(START_MS + 4 * MINUTE_MS);
    expect(await counted(stub, 1)).toEqual([]);
  });

  test("belong to the current minute when the clock goes back", async () => {
    const stub = newObject();
    await stub.add(sums("allowed", 1));
    vi.setSystemTime(START_MS - HOUR_MS);
    await stub.add(sums("allowed", 1));
    expect(await counted(stub, 1)).toEqual([[0, { allowed: 2 }]]);
  });

  test("are kept for one day: a minute overwrites the same minute of the day before", async () => {
    await runInDurableObject(newObject(), (_, { storage }) => {
      const book = new Book(new StatsStore(storage));
      const minutesOf = (ms: number, minutes = 1_440) =>
        book.recent(minutes, ms).minutes.map(({ atMs }) => (atMs - START_MS) / MINUTE_MS);
      for (let minute = 0; minute <= 1_500; minute++) {
        book.add(sums("denied", 1, `user:${minute}`), START_MS + minute * MINUTE_MS);
        book.write();
        if (minute === 1_439) expect(minutesOf(START_MS + minute * MINUTE_MS).length).toBe(1_440);
      }
      const lastMs = START_MS + 1_500 * MINUTE_MS;
      expect(minutesOf(lastMs).length).toBe(1_440);
      expect(minutesOf(lastMs)[0]).toBe(61);
      expect(minutesOf(lastMs + 1_438 * MINUTE_MS)).toEqual([1_499, 1_500]);
      expect(minutesOf(lastMs + 1_440 * MINUTE_MS)).toEqual([]);
      const rows = storage.sql.exec("SELECT kind, count(*) AS rows FROM stats_v1 GROUP BY kind").toArray();
      expect(rows).toEqual([
        { kind: "hour", rows: 25 },
        { kind: "minute", rows: 1_440 },
        { kind: "totals", rows: 1 },
      ]);
      expect(book.totals(lastMs).tallies.get("chat")).toEqual({ denied: 1_501 });
    });
  });

  test("write one row for the minute, the hour and the totals, however many came since the last write", async () => {
    await runInDurableObject(newObject(), (_, { storage }) => {
      const store = new StatsStore(storage);
      const book = new Book(store);
      book.add(sums("allowed", 1), START_MS);
      book.write();
      const rowsOf = (work: () => void) => {
        const before = store.rowsWritten;
        work();
        book.write();
        return store.rowsWritten - before;
      };
      const many = (denied: boolean) => () => {
        for (let i = 0; i < 1_000; i++)
          book.add(sums(denied ? "denied" : "allowed", 1, denied ? `user:${i}` : undefined), START_MS);
      };
      expect([rowsOf(() => {}), rowsOf(many(false)), rowsOf(many(true))]).toEqual([0, 2, 3]);
    });
  });

  test("are written at most every 10 seconds, the first at once", async () => {
    const stub = newObject();
    await stub.add(sums("allowed", 1));
    await written(stub);
    vi.setSystemTime(START_MS + 9_999);
    const before = await stored(stub);
    await stub.add(sums("allowed", 1));
    expect(await stored(stub)).toEqual(before);
    vi.setSystemTime(START_MS + 10_000);
    await stub.add(sums("allowed", 1));
    expect(await stored(stub)).not.toEqual(before);
  });

  test("after which none come are written by the alarm, before an idle object leaves memory", async () => {
    const stub = newObject();
    await stub.add(sums("allowed", 1));
    vi.setSystemTime(START_MS + 1_000);
    await stub.add(sums("allowed", 2));
    expect(await alarmMs(stub)).toBe(START_MS + 9_000);
    vi.setSystemTime(START_MS + 9_000);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    await abortAllDurableObjects();
    expect((await newStub(stub).totals()).tallies.get("chat")).toEqual({ allowed: 3 });
    // The next ring finds nothing to write, and the alarm waits for the day to pass.
    expect(await runDurableObjectAlarm(newStub(stub))).toBe(true);
    expect(await alarmMs(newStub(stub))).toBe(START_MS + 1_000 + 25 * HOUR_MS);
  });

  test("that were shown as totals are not lost in a crash: a counter never goes down", async () => {
    const stub = newObject();
    for (let i = 0; i < 3; i++) await stub.add(sums("allowed", 1));
    expect((await stub.totals()).tallies.get("chat")).toEqual({ allowed: 3 });
    await abortAllDurableObjects();
    expect((await newStub(stub).totals()).tallies.get("chat")).toEqual({ allowed: 3 });
  });

  test("that are sent again are counted once, before and after the object left memory", async () => {
    const stub = newObject();
    const first = { ...sums("denied", 1, "user:u"), id: { sender: "a", sequence: 1 } };
    const second = { ...sums("denied", 10, "user:u"), id: { sender: "a", sequence: 2 } };
    const other = { ...sums("denied", 100, "user:u"), id: { sender: "b", sequence: 1 } };
    for (const sent of [first, first, other, second, first, second]) await stub.add(sent);
    await stub.write();
    await abortAllDurableObjects();
    const again = newStub(stub);
    for (const sent of [second, other, first]) await again.add(sent);
    expect((await again.totals()).tallies.get("chat")).toEqual({ denied: 111 });
    expect((await again.recent(1)).deniedKeys).toEqual([{ item: "chat\ncaller\nuser:u", count: 111, error: 0 }]);
    // The clock of the sender has no part in it, and neither has an hour that ends for another sender.
    vi.setSystemTime(START_MS + 59 * MINUTE_MS);
    for (const sent of [second, other]) await again.add(sent);
    expect((await again.totals()).tallies.get("chat")).toEqual({ denied: 111 });
  });
});

describe("a stats object", () => {
  test("is still empty after a first write that failed, and stores everything with the next write", async () => {
    const stub = newObject();
    await runInDurableObject(stub, (_, { storage }) => {
      const store = new StatsStore(storage);
      const book = new Book(store);
      book.add(sums("denied", 2, "user:u"), START_MS);
      const { exec } = storage.sql;
      vi.spyOn(storage.sql, "exec").mockImplementation((text, ...bindings) => {
        if (text.includes("INSERT") && bindings[0] === "hour") throw new Error("disk full");
        return exec.call(storage.sql, text, ...bindings);
      });
      expect(() => book.write()).toThrow("disk full");
      vi.restoreAllMocks();
      for (const reader of [store, new StatsStore(storage)]) {
        expect(reader.isEmpty).toBe(true);
        expect(reader.load("totals", 0)).toBeUndefined();
      }
      book.write();
      expect(new Book(store).totals(START_MS).tallies.get("chat")).toEqual({ denied: 2 });
    });
  });

  test("adds sums as a whole or not at all", async () => {
    await runInDurableObject(newObject(), (_, { storage }) => {
      const store = new StatsStore(storage);
      const book = new Book(store);
      book.add(sums("allowed", 1), START_MS);
      vi.spyOn(store, "load").mockImplementation(() => {
        throw new Error("disk failed");
      });
      expect(() => book.add(sums("denied", 3, "user:u"), START_MS + MINUTE_MS)).toThrow("disk failed");
      vi.restoreAllMocks();
      expect([book.lastMs, book.totals(START_MS).tallies.get("chat")]).toEqual([START_MS, { allowed: 1 }]);
      book.add(sums("denied", 3, "user:u"), START_MS + MINUTE_MS);
      expect(book.totals(START_MS).tallies.get("chat")).toEqual({ allowed: 1, denied: 3 });
    });
  });

  test("comes back after an eviction with everything that was written, and without the rest", async () => {
    let stub = newObject();
    await stub.add(sums("denied", 2, "user:u"));
    await written(stub);
    await stub.add(sums("denied", 3, "user:u"));
    expect(await counted(stub)).toEqual([[0, { denied: 5 }]]);
    await abortAllDurableObjects();
    stub = newStub(stub);
    expect(await counted(stub)).toEqual([[0, { denied: 2 }]]);
    await stub.add(sums("denied", 4, "user:u"));
    expect(await counted(stub)).toEqual([[0, { denied: 6 }]]);
    expect((await stub.recent(1)).deniedKeys).toEqual([{ item: "chat\ncaller\nuser:u", count: 6, error: 0 }]);
    const { sinceMs, tallies, latencies } = await stub.totals();
    expect([sinceMs, tallies.get("chat"), latencies.counts[2], latencies.sumMs]).toEqual([
      START_MS,
      { denied: 6 },
      6,
      18,
    ]);
  });

  test("lists the keys denied most in the last day, over all of its hours", async () => {
    const stub = newObject();
    const most = async () =>
      (await stub.recent(1)).deniedKeys.map(({ item, count }) => [item.split("\n").at(-1), count]);
    await stub.add(sums("denied", 3, "user:a"));
    for (let hour = 1; hour <= 24; hour++) {
      vi.setSystemTime(START_MS + hour * HOUR_MS);
      await stub.add(sums("denied", 1, "user:b"));
    }
    expect(await most()).toEqual([
      ["user:b", 24],
      ["user:a", 3],
    ]);
    vi.setSystemTime(START_MS + 25 * HOUR_MS);
    expect(await most()).toEqual([["user:b", 24]]);
  });

  test("says by how much the count of a key may be wrong if there are more keys than it keeps", async () => {
    const stub = newObject();
    for (let part = 0; part < 4; part++)
      for (let i = 0; i < 200; i++) await stub.add(sums("denied", 1, `user:${part}-${i}`));
    await stub.add(sums("denied", 50, "user:often"));
    const { deniedKeys, errorAtMost } = await stub.recent(1);
    expect(deniedKeys.length).toBe(256);
    expect(errorAtMost).toBeLessThanOrEqual(850 / 256);
    expect(deniedKeys[0]?.item).toContain("user:often");
    expect(deniedKeys[0]?.count).toBeGreaterThanOrEqual(50);
  });

  test("deletes all but the totals when nothing came for one day, and not before", async () => {
    const stub = newObject();
    await stub.add(sums("denied", 1, "user:u"));
    await written(stub);
    vi.setSystemTime(START_MS + HOUR_MS);
    await stub.add(sums("allowed", 1));
    vi.setSystemTime(START_MS + 26 * HOUR_MS - 1);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect((await stored(stub))?.map(({ kind }) => kind)).toEqual(["hour", "minute", "minute", "totals"]);
    vi.setSystemTime(START_MS + 26 * HOUR_MS);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect((await stored(stub))?.map(({ kind }) => kind)).toEqual(["totals"]);
    // Totals that began anew in one of several objects would take the sum down.
    expect((await stub.totals()).tallies.get("chat")).toEqual({ allowed: 1, denied: 1 });
    expect(await runDurableObjectAlarm(stub)).toBe(false);
    await stub.add(sums("allowed", 1));
    expect(await alarmMs(stub)).toBe(START_MS + 51 * HOUR_MS);
  });

  test("stores nothing when it is only read", async () => {
    const stub = newObject();
    expect(await stub.recent(1_440)).toEqual({ minutes: [], deniedKeys: [], errorAtMost: 0, signIns: noSignIns() });
    expect(await stored(stub)).toBeUndefined();
  });
});
