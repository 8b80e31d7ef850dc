import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Store } from "../../src/object/store/store";
import { CLOCK_MARGIN_MS } from "../../src/object/sweep";
import { caller, charge, countPages, HOUR_MS, inside, ip, newObject, objects, START_MS, TestLedger } from "./ledger";
import { ask } from "./target";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("time", () => {
  test("does not go back after an alarm has emptied the object", async () => {
    const stub = newObject();
    await ask(stub, "consume", charge([caller("user:u")]));
    const emptiedMs = START_MS + HOUR_MS + 2 * CLOCK_MARGIN_MS;
    vi.setSystemTime(emptiedMs);
    await runDurableObjectAlarm(stub);
    expect(await countPages(stub)).toBeUndefined();
    vi.setSystemTime(emptiedMs - 30_000);
    expect((await ask(stub, "check", charge([caller("user:u")]))).atMs).toBe(emptiedMs);
  });

  test.each([
    ["does not go back before an event that was rolled back and whose page has overwritten an expired one", false],
    ["does not go back before such an event even after a sweep within the clock's margin", true],
  ])("%s", async (_, isSwept) => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store, undefined, 1);
      const counter = ip("ip:1", 1);
      ledger.consume(charge([counter]), START_MS);
      const rolledBack = charge([counter]);
      ledger.consume(rolledBack, START_MS + 60_000);
      ledger.rollBack(rolledBack, START_MS + 60_000);
      if (isSwept) for (const _ of ledger.sweep(START_MS + 60_001));
      // The first event is gone. By a clock that is behind it would still count.
      const again = new TestLedger(store, undefined, 1);
      expect(again.consume(charge([counter]), START_MS + 59_999)).toMatchObject({ atMs: START_MS + 60_000 });
    });
  });

  test("keeps the order of a page that was emptied by a rollback and written again", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const counter = ip("ip:1", 1_000_000);
      for (let i = 0; i < 100; i++) {
        const atMs = START_MS + i * 1_000;
        const rolledBack = charge([counter]);
        ledger.consume(rolledBack, atMs);
        ledger.rollBack(rolledBack, atMs);
        ledger.consume(charge([counter]), atMs);
        const fromMemory = ledger.check(charge([counter]), atMs + 1);
        expect(new TestLedger(store).check(charge([counter]), atMs + 1)).toEqual(fromMemory);
        // A clock that is behind shows which event is taken for the newest.
        expect(new TestLedger(store).check(charge([counter]), START_MS).atMs).toBe(atMs);
      }
    });
  });

  test("keeps the order of pages that begin in the same millisecond", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const counter = ip("ip:1", 1_000_000);
      // After a clock went back, time stands still: many events share an instant, over slots that are used again.
      for (let round = 0; round < 8; round++) {
        for (let i = 0; i < 100; i++) ledger.consume(charge([counter]), START_MS + round * 25_000);
        for (let i = 0; i < 10; i++) ledger.consume(charge([counter]), START_MS + round * 25_000 + i);
        const atMs = START_MS + round * 25_000 + 30;
        const fromMemory = ledger.check(charge([counter]), atMs);
        expect(new TestLedger(store).check(charge([counter]), atMs)).toEqual(fromMemory);
      }
    });
  });

  test("does not go back when the clock does, before and after an eviction", async () => {
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
