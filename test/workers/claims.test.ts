import { describe, expect, test } from "vitest";
import { Store } from "../../src/object/store/store";
import { caller, charge, inside, newObject, START_MS, TestLedger } from "./ledger";

describe("claims", () => {
  const used = (ledger: TestLedger) => ledger.check(charge([caller("user:u")]), START_MS).standings[0]?.[0]?.used;

  /** `reopened` gives a new ledger, which has read everything from storage. */
  const onStorage = (work: (reopened: () => TestLedger) => void) =>
    inside(newObject(), (storage) => {
      const store = new Store(storage);
      work(() => new TestLedger(store));
    });

  test("an event is removed only when the last attempt that relies on it is rolled back", async () => {
    await onStorage((reopened) => {
      const first = { ...charge([caller("user:u")], 2), isOnlyPart: false };
      const second = { ...first, attempt: "b" };
      reopened().consume(first, START_MS);
      reopened().consume(second, START_MS);
      reopened().rollBack(first, START_MS);
      reopened().rollBack(first, START_MS);
      expect(used(reopened())).toBe(2);
      reopened().rollBack(second, START_MS);
      expect(used(reopened())).toBe(0);
      expect(reopened().consume(second, START_MS)).toMatchObject({ allowed: true, replayed: false });
    });
  });

  test("a rollback by an attempt without a claim removes nothing", async () => {
    await onStorage((reopened) => {
      const first = { ...charge([caller("user:u")]), isOnlyPart: false };
      reopened().consume(first, START_MS);
      reopened().rollBack({ ...first, attempt: "late" }, START_MS);
      expect(used(reopened())).toBe(1);
    });
  });

  test("an event with more attempts than claims is never removed", async () => {
    await onStorage((reopened) => {
      const ledger = reopened();
      const first = { ...charge([caller("user:u")]), isOnlyPart: false };
      const attempts = Array.from({ length: 40 }, (_, i) => ({ ...first, attempt: `attempt${i}` }));
      for (const attempt of attempts) ledger.consume(attempt, START_MS);
      for (const attempt of attempts) ledger.rollBack(attempt, START_MS);
      expect(used(ledger)).toBe(1);
    });
  });
});
