import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi } from "vitest";
import { JournalBudget } from "../../src/object/store/journal-budget";

/** Stands for a journal: holds text of a budget. */
class Holder {
  readonly share;

  constructor(budget: JournalBudget, chars: number) {
    this.share = budget.shareOf(this);
    this.share.chars = chars;
  }
}

test("a journal may hold what the other journals leave, up to its maximum and at least its minimum", () => {
  const budget = new JournalBudget(100, 60, 10);
  const first = new Holder(budget, 0);
  expect(first.share.mostChars).toBe(60);
  const second = new Holder(budget, 55);
  expect([first.share.mostChars, second.share.mostChars]).toEqual([45, 60]);
  first.share.chars = 45;
  const third = new Holder(budget, 8);
  expect([first, second, third].map(({ share }) => share.mostChars)).toEqual([37, 47, 10]);
  first.share.chars = 30;
  expect(budget.heldChars).toBe(93);
});

test("the share of a journal is free once the journal is garbage-collected", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const budget = new JournalBudget(100);
  const kept = new Holder(budget, 20);
  (() => new Holder(budget, 70))();
  expect(kept.share.mostChars).toBe(30);
  await vi.waitFor(() => {
    collectGarbage();
    expect(budget.heldChars).toBe(20);
  });
  expect(kept.share.mostChars).toBe(100);
});
