import { describe, expect, test } from "vitest";
import { Store } from "../../src/object/store/store";
import { caller, charge, inside, newObject, START_MS, TestLedger } from "./ledger";

describe("claims", () => {
  const used = (ledger: TestLedger) => ledger.check(charge([caller("user:u")]), START_MS).standings[0]?.[0]?.used;

  /** On a ledger over real storage, and on one that read it back. */
  const onBoth = (work: (reopened: () => TestLedger) => void) =>
    inside(newObject(), (storage) => {
      const store = new Store(storage);
      work(() => new TestLedger(store));
    });

  test("an event is taken back only when the last attempt that relies on it lifts its claim", async () => {
    await onBoth((reopened) => {
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

  test("an undo by an attempt that has no claim takes nothing back", async () => {
    await onBoth((reopened) => {
      const first = { ...charge([caller("user:u")]), isOnlyPart: false };
      reopened().consume(first, START_MS);
      reopened().rollBack({ ...first, attempt: "late" }, START_MS);
      expect(used(reopened())).toBe(1);
    });
  });

  test("with more attempts than are remembered, the event stays for good", async () => {
    await onBoth((reopened) => {
      const ledger = reopened();
      const first = { ...charge([caller("user:u")]), isOnlyPart: false };
      const attempts = Array.from({ length: 40 }, (_, i) => ({ ...first, attempt: `attempt${i}` }));
      for (const attempt of attempts) ledger.consume(attempt, START_MS);
      for (const attempt of attempts) ledger.rollBack(attempt, START_MS);
      expect(used(ledger)).toBe(1);
    });
  });
});
