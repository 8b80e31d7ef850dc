import { expect, test } from "vitest";
import { type Attempt, type KeyOrder, mistakesInAdmissions } from "./admissions";

const MARGINS = { clockMs: 1, offsetsMs: [0, 0], lateMs: 0, attemptMs: 300 } as const;
const KEY = "user:u";
const WINDOW_MS = 1_000;
const LIMITS = [{ max: 1, windowMs: WINDOW_MS }];

/** A call about the decision `id`, of a caller who has one request a second. */
function call(id: string, askedAtMs: number, endedAtMs: number, changes: Partial<Attempt> = {}): Attempt {
  const counted = [{ layer: "caller", key: KEY, limits: LIMITS }];
  const named = { op: "consume", policy: "p", decision: id, cost: 1, counted, hasShadow: false } as const;
  return { ...named, askedAtMs, endedAtMs, ending: "admitted", said: [], ...changes };
}

function order(
  what: KeyOrder["what"],
  askedAtMs: number,
  endedAtMs: number,
  changes: Partial<KeyOrder> = {},
): KeyOrder {
  return { key: KEY, what, askedAtMs, endedAtMs, isTold: true, ...changes };
}

const limitsOf = (max: number, windowMs: number) =>
  ({
    override: { kind: "limits", layers: [{ policy: "p", layer: "caller", limits: [{ max, windowMs }] }] },
    endsAtMs: 1_000_000,
  }) as const;

/** The first words of each mistake. */
function judged(attempts: readonly Attempt[], orders: readonly KeyOrder[] = []): string[] {
  return mistakesInAdmissions(attempts, orders, MARGINS).map((mistake) => mistake.split(/[:,]| by /)[0] ?? "");
}

test("two admissions that were told within one window are one too many, whenever they were made", () => {
  expect(judged([call("a", 0, 20), call("b", 900, 990)])).toEqual(["too much was admitted"]);
});

test("two that may have been a window apart are none too many", () => {
  expect(judged([call("a", 0, 20), call("b", 900, 1_020)])).toEqual([]);
});

test("an admission may be as old as the first attempt that was not told a denial", () => {
  const denied = [call("a", 0, 20, { ending: "denied" }), call("a", 700, 720), call("b", 1_650, 1_690)];
  expect(judged(denied)).toEqual(["too much was admitted"]);
  const unheard = [call("a", 0, 20, { ending: "unreachable" }), call("a", 700, 720, { ending: "replayed" })];
  expect(judged([...unheard, call("b", 1_650, 1_690)])).toEqual([]);
});

test("a replay of attempts that were all told a denial is an admission of now", () => {
  const attempts = [call("a", 0, 20, { ending: "denied" }), call("a", 700, 720, { ending: "replayed" })];
  expect(judged([...attempts, call("b", 1_010, 1_030)])).toEqual(["too much was admitted"]);
  const said = [{ layer: "caller", key: KEY, windowMs: WINDOW_MS, resetsInMs: 310 }];
  const notNew = [attempts[0] as Attempt, call("a", 700, 720, { ending: "replayed", said })];
  expect(judged(notNew)).toEqual(["admitted"]);
});

test("an id is charged once in its window, and again after it", () => {
  expect(judged([call("a", 0, 20), call("a", 500, 520, { ending: "replayed" })])).toEqual([]);
  expect(judged([call("a", 0, 20), call("a", 500, 520)])).toContain("charged twice");
  expect(judged([call("a", 0, 20), call("a", 1_030, 1_050)])).toEqual([]);
  expect(judged([call("a", 0, 20), call("a", 1_030, 1_050, { ending: "replayed" })])).toEqual(["a replay of nothing"]);
});

test("a settle finds what is known, and nothing else", () => {
  const settle = { op: "settle", cost: 0 } as const;
  expect(judged([call("a", 0, 20), call("a", 500, 520, { ...settle, ending: "unknown decision" })])).toEqual([
    "unknown",
  ]);
  expect(judged([call("a", 0, 20), call("a", 1_030, 1_050, { ...settle, ending: "changed" })])).toEqual(["changed"]);
  expect(judged([call("a", 0, 20), call("a", 30, 50, { ...settle, ending: "changed" }), call("b", 60, 80)])).toEqual(
    [],
  );
});

test("what was admitted before a key was forgotten counts no more", () => {
  expect(judged([call("a", 0, 20), call("b", 500, 520)], [order("forget", 100, 120)])).toEqual([]);
  expect(judged([call("a", 0, 20), call("b", 500, 520)], [order("forget", 600, 620)])).toEqual([
    "too much was admitted",
  ]);
});

test("an override decides while it is certainly in force, and its window keeps what counts when it is set", () => {
  const many = [call("a", 0, 20), call("b", 1_500, 1_520), call("c", 3_000, 3_020)];
  expect(judged(many, [order("override", 100, 120, limitsOf(2, 10_000))])).toEqual(["too much was admitted"]);
  expect(judged(many, [order("override", 1_200, 1_220, limitsOf(2, 10_000))])).toEqual([]);
  const lifted = [order("override", 100, 120, limitsOf(2, 10_000)), order("lift", 2_000, 2_020)];
  expect(judged(many, lifted)).toEqual([]);
});
