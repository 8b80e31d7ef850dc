import { expect, test } from "vitest";
import { type AdminCall, type CallerCall, type Margins, mistakesInAdmissions } from "./admissions";

const MARGINS = { clockMs: 1, offsetsMs: [0, 0], lateMs: 0, attemptMs: 300 } as const;
const KEY = "user:u";
const WINDOW_MS = 1_000;
const LIMITS = [{ max: 1, windowMs: WINDOW_MS }];

/** A consume of the decision `id`, by a caller who has one request a second. */
function call(id: string, sentAtMs: number, endedAtMs: number, changes: Partial<CallerCall> = {}): CallerCall {
  return {
    op: "consume",
    policy: "p",
    decisionName: id,
    cost: 1,
    counters: [{ layer: "caller", key: KEY, limits: LIMITS }],
    hasShadow: false,
    sentAtMs,
    endedAtMs,
    outcome: "admitted",
    standings: [],
    ...changes,
  };
}

function adminCall(
  op: AdminCall["op"],
  sentAtMs: number,
  endedAtMs: number,
  changes: Partial<AdminCall> = {},
): AdminCall {
  return { key: KEY, op, sentAtMs, endedAtMs, isAcknowledged: true, ...changes };
}

const limitsOf = (max: number, windowMs: number) =>
  ({
    override: { kind: "limits", layers: [{ policy: "p", layer: "caller", limits: [{ max, windowMs }] }] },
    endsAtMs: 1_000_000,
  }) as const;

/** The first words of each mistake. */
function judge(
  calls: readonly CallerCall[],
  adminCalls: readonly AdminCall[] = [],
  margins: Margins = MARGINS,
): string[] {
  return mistakesInAdmissions(calls, adminCalls, margins).map((mistake) => mistake.split(/[:,]| by /)[0] ?? "");
}

test("two admissions answered within one window are too many, whenever they were made", () => {
  expect(judge([call("a", 0, 20), call("b", 900, 990)])).toEqual(["too much was admitted"]);
});

test("two admissions that may have been a window apart are not too many", () => {
  expect(judge([call("a", 0, 20), call("b", 900, 1_020)])).toEqual([]);
});

test("an admission may be as old as its first call that was not denied", () => {
  const denied = [call("a", 0, 20, { outcome: "denied" }), call("a", 700, 720), call("b", 1_650, 1_690)];
  expect(judge(denied)).toEqual(["too much was admitted"]);
  const unheard = [call("a", 0, 20, { outcome: "unreachable" }), call("a", 700, 720, { outcome: "replayed" })];
  expect(judge([...unheard, call("b", 1_650, 1_690)])).toEqual([]);
});

test("a replay whose earlier calls were all denied is a new admission", () => {
  const calls = [call("a", 0, 20, { outcome: "denied" }), call("a", 700, 720, { outcome: "replayed" })];
  expect(judge([...calls, call("b", 1_010, 1_030)])).toEqual(["too much was admitted"]);
  const standings = [{ layer: "caller", key: KEY, windowMs: WINDOW_MS, resetsInMs: 310 }];
  const notNew = [calls[0] as CallerCall, call("a", 700, 720, { outcome: "replayed", standings })];
  expect(judge(notNew)).toEqual(["admitted"]);
});

test("an id is charged once in its window, and again after it", () => {
  expect(judge([call("a", 0, 20), call("a", 500, 520, { outcome: "replayed" })])).toEqual([]);
  expect(judge([call("a", 0, 20), call("a", 500, 520)])).toContain("charged twice");
  expect(judge([call("a", 0, 20), call("a", 1_030, 1_050)])).toEqual([]);
  expect(judge([call("a", 0, 20), call("a", 1_030, 1_050, { outcome: "replayed" })])).toEqual(["a replay of nothing"]);
});

test("a settle finds a decision exactly while its id is known", () => {
  const settle = { op: "settle", cost: 0 } as const;
  expect(judge([call("a", 0, 20), call("a", 500, 520, { ...settle, outcome: "unknown decision" })])).toEqual([
    "unknown",
  ]);
  expect(judge([call("a", 0, 20), call("a", 1_030, 1_050, { ...settle, outcome: "changed" })])).toEqual(["changed"]);
  expect(judge([call("a", 0, 20), call("a", 30, 50, { ...settle, outcome: "changed" }), call("b", 60, 80)])).toEqual(
    [],
  );
});

test("an admission stops counting when its key is forgotten", () => {
  expect(judge([call("a", 0, 20), call("b", 500, 520)], [adminCall("forget", 100, 120)])).toEqual([]);
  expect(judge([call("a", 0, 20), call("b", 500, 520)], [adminCall("forget", 600, 620)])).toEqual([
    "too much was admitted",
  ]);
});

test("an override decides while it is certainly in force, and its window keeps what counts when it is set", () => {
  const calls = [call("a", 0, 20), call("b", 1_500, 1_520), call("c", 3_000, 3_020)];
  expect(judge(calls, [adminCall("override", 100, 120, limitsOf(2, 10_000))])).toEqual(["too much was admitted"]);
  expect(judge(calls, [adminCall("override", 1_200, 1_220, limitsOf(2, 10_000))])).toEqual([]);
  const lifted = [adminCall("override", 100, 120, limitsOf(2, 10_000)), adminCall("lift", 2_000, 2_020)];
  expect(judge(calls, lifted)).toEqual([]);
});

test("a first answer may come after a replay, even where clocks jump by more than an id is known", () => {
  const jumping = { ...MARGINS, clockMs: WINDOW_MS + 1 };
  const overrides = [adminCall("override", -120, -100, limitsOf(1, 3 * WINDOW_MS))];
  const first = call("a", 0, 40);
  expect(judge([call("a", 0, 20, { outcome: "replayed" }), first], overrides, jumping)).toEqual([]);
  expect(judge([call("a", 0, 20), first], overrides, jumping)).toEqual(["too much was admitted"]);
});
