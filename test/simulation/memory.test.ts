import { describe, expect, test, vi } from "vitest";
import { MemoryBudget } from "../../src/object/account-cache";
import { Ledger } from "../../src/object/ledger";
import type { Call, Counter } from "../../src/object/protocol";
import { Disk } from "./disk";

const START_MS = 1_800_000_000_000;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

function callOf(method: "check" | "consume", counters: Counter[]): Call {
  const question = { policy: "inline", cost: 1, counters, id: crypto.randomUUID(), identity: "=s", isOnlyPart: true };
  return { method, question: { ...question, attempt: "a", windowMs: 1_000 } } as Call;
}

function decide(ledger: Ledger, method: "check" | "consume", counters: Counter[], nowMs = START_MS) {
  const [result] = ledger.decide([callOf(method, counters)], nowMs);
  if (!result || !("verdict" in result)) throw new Error(result?.error);
  return result.verdict;
}

const counter = (key: string, layer = "l", windowMs = 1_000): Counter => ({
  layer,
  key,
  limits: [{ max: 1_000_000, windowMs }],
});

describe("a memory budget", () => {
  test("is shared by the accounts of several objects, and keeps the account used last", () => {
    const memory = new MemoryBudget(200_000);
    const ledgers = Array.from({ length: 4 }, () => new Ledger(new Disk(), memory));
    for (let round = 0; round < 3; round++)
      for (const [i, ledger] of ledgers.entries())
        for (let key = 0; key < 100; key++) {
          expect(decide(ledger, "consume", [counter(`k:${i}-${key}`)]).standings[0]?.[0]?.used).toBe(round + 1);
          const inUse = ledgers.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
          expect(inUse).toBeLessThanOrEqual(200_000);
          expect(ledger.weightBytes).toBeGreaterThan(0);
        }
    expect(ledgers[3]?.weightBytes).toBeGreaterThan(100_000);
  });

  test("keeps an account that every turn uses, counts it once, and hardly ever reads it again", () => {
    const disk = new Disk();
    const pages = vi.spyOn(disk, "pages");
    const ledger = new Ledger(disk, new MemoryBudget(200_000));
    for (let turn = 0; turn < 2_000; turn++) {
      const calls = ["k:hot", `k:${turn}`].map((key) => callOf("consume", [counter(key)]));
      const results = ledger.decide(calls, START_MS);
      expect(results.map((result) => "verdict" in result && result.verdict.standings[0]?.[0]?.used)).toEqual([
        turn + 1,
        1,
      ]);
    }
    expect(pages.mock.calls.filter(([key]) => key === "k:hot").length).toBeLessThan(5);
    expect(ledger.weightBytes).toBeGreaterThan(190_000);
    expect(ledger.weightBytes).toBeLessThanOrEqual(200_000);
  });

  test("is not used by checks of other layers and windows, nor by layers whose events have left", () => {
    const ledger = new Ledger(new Disk());
    decide(ledger, "consume", [counter("k:1")]);
    const weightBytes = ledger.weightBytes;
    for (let i = 0; i < 2_000; i++) decide(ledger, "check", [counter("k:1", `l${i}`, 1_000 * (i + 1))]);
    expect(ledger.weightBytes).toBe(weightBytes);
    for (let i = 0; i < 2_000; i++) decide(ledger, "consume", [counter("k:1", `l${i}`)], START_MS + 120_000 * i);
    expect(ledger.weightBytes).toBeLessThan(20 * weightBytes);
  });
});

test.each([
  ["after a sweep", (ledger: Ledger, nowMs: number) => void [...ledger.sweep(nowMs)]],
  ["after it is set again", (ledger: Ledger, nowMs: number) => void override(ledger, nowMs)],
  [
    "after a check with a shorter window",
    (ledger: Ledger, nowMs: number) => void decide(ledger, "check", [counter(KEY)], nowMs),
  ],
])("an override keeps the events that count when it is set, as long as its window reaches: %s", (_, disturb) => {
  const disk = new Disk();
  let ledger = new Ledger(disk, undefined, 150);
  const own = [{ layer: "l", key: KEY, limits: [{ max: 60, windowMs: HOUR_MS }] }];
  for (let i = 0; i < 10; i++) decide(ledger, "consume", own, START_MS + i);
  override(ledger, START_MS + 60_000);
  for (const hours of [1.1, 5, 23.9]) {
    const nowMs = START_MS + hours * HOUR_MS;
    disturb(ledger, nowMs);
    ledger = new Ledger(disk, undefined, 150);
    const { allowed, standings } = decide(ledger, "consume", own, nowMs);
    expect([allowed, standings[0]?.[0]?.used, standings[0]?.[0]?.fitsInMs]).toEqual([
      false,
      10,
      START_MS + DAY_MS - nowMs,
    ]);
  }
  expect(decide(ledger, "consume", own, START_MS + DAY_MS).allowed).toBe(true);
  expect(decide(ledger, "consume", own, START_MS + DAY_MS).allowed).toBe(false);
});

const KEY = "user:u";

function override(ledger: Ledger, nowMs: number): void {
  const layers = [{ policy: "inline", layer: "l", limits: [{ max: 10, windowMs: DAY_MS }] }];
  ledger.setOverride(KEY, { kind: "limits", reason: "r", ends: { inMs: 30 * DAY_MS }, layers }, nowMs);
}
