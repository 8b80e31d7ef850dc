import { expect, test } from "vitest";
import { Store } from "../../src/object/store/store";
import { Disk } from "../simulation/disk";
import { charge, inside, ip, newObject, START_MS, TestLedger } from "./ledger";

test("an idempotency key is found on every page, before and after an eviction", async () => {
  await inside(newObject(), (storage) => {
    const store = new Store(storage);
    const writer = new TestLedger(store);
    const charges = Array.from({ length: 300 }, () => charge([ip("ip:1", 1_000)], 2));
    for (const charge of charges) writer.consume(charge, START_MS);
    for (const ledger of [writer, new TestLedger(store)])
      for (const event of charges) {
        expect(ledger.consume({ ...event, attempt: "b" }, START_MS)).toMatchObject({ allowed: true, replayed: true });
        expect(ledger.settle({ ...event, cost: 1 }, START_MS).found).toBe(true);
        expect(ledger.consume({ ...event, identity: "another", cost: 1_000 }, START_MS).allowed).toBe(false);
      }
    expect(new TestLedger(store).check(charge([ip("ip:1", 1_000)]), START_MS).standings).toMatchObject([
      [{ used: 300 }],
    ]);
  });
});

test.each([0, 30])(
  "an id that is used again after its window is a replay from then on, with %i events between",
  async (between) => {
    await inside(newObject(), (storage) => {
      const store = new Store(storage);
      const ledgers = [new TestLedger(store), new TestLedger(new Disk())];
      const counter = ip("ip:1", 1_000);
      const once = charge([counter]);
      const forgottenAtMs = START_MS + 60_000;
      for (const ledger of ledgers) {
        ledger.consume(once, START_MS);
        for (let i = 0; i < between; i++) ledger.consume(charge([counter]), START_MS);
        expect(ledger.consume({ ...once, attempt: "b" }, forgottenAtMs - 1).replayed).toBe(true);
        expect(ledger.consume({ ...once, attempt: "c" }, forgottenAtMs).replayed).toBe(false);
        for (let i = 0; i < between; i++) ledger.consume(charge([counter]), forgottenAtMs);
        const again = ledger.consume({ ...once, attempt: "d" }, forgottenAtMs + 1);
        expect([again.replayed, again.standings[0]?.[0]?.used]).toEqual([true, 1 + between]);
        ledger.settle({ ...once, cost: 0 }, forgottenAtMs + 1);
        expect(ledger.check(charge([counter]), forgottenAtMs + 1).standings[0]?.[0]?.used).toBe(between);
      }
      expect(new TestLedger(store).consume({ ...once, attempt: "e" }, forgottenAtMs + 2).replayed).toBe(true);
    });
  },
);

test("an idempotency key that is used again after its window is known for another window", async () => {
  await inside(newObject(), (storage) => {
    const ledger = new TestLedger(new Store(storage));
    const event = { ...charge([ip("ip:1")]), windowMs: 60_000 };
    const replayed = [0, 60_000, 60_001, 119_999, 120_000].map(
      (ms) => ledger.consume({ ...event, attempt: `at ${ms}` }, START_MS + ms).replayed,
    );
    expect(replayed).toEqual([false, false, true, true, false]);
    expect(ledger.settle({ ...event, cost: 7 }, START_MS + 120_000).standings).toMatchObject([[{ used: 7 }]]);
  });
});

test("an event whose id is not known any more hides no later event of the other mode", () => {
  const once = { ...charge([ip("ip:1")]), identity: "ip=s" };
  const forgottenAtMs = START_MS + 120_000;
  // Whether the first event is still stored must make no difference.
  const replayed = [false, true].map((isStored) => {
    const ledger = new TestLedger(new Disk());
    if (isStored) ledger.consume(once, START_MS);
    ledger.consume({ ...once, identity: "ip=s~shadow", attempt: "b" }, forgottenAtMs);
    return ledger.consume({ ...once, attempt: "c" }, forgottenAtMs + 1).replayed;
  });
  expect(replayed).toEqual([true, true]);
});
