import { expect, test } from "vitest";
import { Senders } from "../../src/counting/senders";

const HOUR_MS = 3_600_000;

test("a sender is remembered for an hour after its last sums, and the 4,096 that sent last at most", () => {
  const senders = new Senders();
  const sent = (sender: string) => ({ sender, sequence: 1 });
  senders.add(sent("a"), 0);
  senders.add(sent("b"), HOUR_MS - 1);
  expect([senders.has(sent("a")), senders.has(sent("b"))]).toEqual([true, true]);
  senders.add(sent("b"), HOUR_MS);
  expect([senders.has(sent("a")), senders.has(sent("b"))]).toEqual([false, true]);
  for (let i = 0; i < 4_095; i++) senders.add(sent(`c${i}`), HOUR_MS);
  expect(senders.has(sent("b"))).toBe(true);
  senders.add(sent("d"), HOUR_MS);
  expect([senders.has(sent("b")), senders.has(sent("c0")), senders.stored().length]).toEqual([false, true, 4_096]);
});

test("an earlier number of a sender is known by a later one, also after the senders were stored", () => {
  const senders = new Senders();
  senders.add({ sender: "a", sequence: 7 }, 0);
  const again = new Senders(JSON.parse(JSON.stringify(senders.stored())));
  expect([6, 7, 8].map((sequence) => again.has({ sender: "a", sequence }))).toEqual([true, true, false]);
});
