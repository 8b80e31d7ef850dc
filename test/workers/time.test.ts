import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Store } from "../../src/object/store/store";
import { CLOCK_MARGIN_MS } from "../../src/object/sweep";
import { caller, charge, countPages, HOUR_MS, inside, ip, newObject, objects, START_MS, TestLedger } from "./ledger";
import { ask } from "./target";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: START_MS }));

describe("time", () => {
  test("does not run backwards when an alarm has emptied the object", async () => {
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
    ["does not run backwards behind an event that was put back, which had taken the place of an expired one", false],
    ["nor is that instant forgotten by a sweep within the minute for which clocks may be put back", true],
  ])("%s", async (_, isSwept) => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store, undefined, 1);
      const asked = ip("ip:1", 1);
      ledger.consume(charge([asked]), START_MS);
      const back = charge([asked]);
      ledger.consume(back, START_MS + 60_000);
      ledger.rollBack(back, START_MS + 60_000);
      if (isSwept) for (const _ of ledger.sweep(START_MS + 60_001));
      // The first event is gone, and would count again by a clock that is behind.
      const again = new TestLedger(store, undefined, 1);
      expect(again.consume(charge([asked]), START_MS + 59_999)).toMatchObject({ atMs: START_MS + 60_000 });
    });
  });

  test("a page that was emptied by an undo and written again comes back in its order", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const asked = ip("ip:1", 1_000_000);
      for (let i = 0; i < 100; i++) {
        const atMs = START_MS + i * 1_000;
        const back = charge([asked]);
        ledger.consume(back, atMs);
        ledger.rollBack(back, atMs);
        ledger.consume(charge([asked]), atMs);
        const warm = ledger.check(charge([asked]), atMs + 1);
        // A clock that is behind tells whether the newest event is known for what it is.
        expect(new TestLedger(store).check(charge([asked]), atMs + 1)).toEqual(warm);
        expect(new TestLedger(store).check(charge([asked]), START_MS).atMs).toBe(atMs);
      }
    });
  });

  test("pages that begin in the same millisecond come back in their order", async () => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledger = new TestLedger(store);
      const asked = ip("ip:1", 1_000_000);
      // A clock that was set back stands still: many events share an instant, over pages whose slots are used again.
      for (let round = 0; round < 8; round++) {
        for (let i = 0; i < 100; i++) ledger.consume(charge([asked]), START_MS + round * 25_000);
        for (let i = 0; i < 10; i++) ledger.consume(charge([asked]), START_MS + round * 25_000 + i);
        const atMs = START_MS + round * 25_000 + 30;
        const warm = ledger.check(charge([asked]), atMs);
        expect(new TestLedger(store).check(charge([asked]), atMs)).toEqual(warm);
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
