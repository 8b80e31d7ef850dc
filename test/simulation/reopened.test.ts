import fc from "fast-check";
import { expect, test } from "vitest";
import type { Cost } from "../../src/core/cost";
import type { Limit } from "../../src/core/limit";
import { MemoryBudget } from "../../src/object/account-cache";
import { Ledger } from "../../src/object/ledger";
import type { Call, Charge, Counter } from "../../src/object/protocol";
import { Disk } from "./disk";

const CLOCK_MARGIN_MS = 2_000;
const KEY = "user:u";
/** Windows from far below the retention to far above it. */
const WINDOWS_MS = [1_000, 3_000, 20_000, 100_000];

const limits = fc
  .uniqueArray(
    fc.record({
      kind: fc.constantFrom(undefined, undefined, "concurrent" as const),
      max: fc.integer({ min: 1, max: 30 }),
      windowMs: fc.constantFrom(...WINDOWS_MS),
    }),
    { minLength: 1, maxLength: 3, selector: ({ kind, windowMs }) => `${kind} ${windowMs}` },
  )
  .map((limits) => limits as Limit[]);

/** One or two counters of the key, under limits that change from call to call. */
const counters = fc
  .uniqueArray(fc.record({ layer: fc.constantFrom("a", "b"), limits }), {
    minLength: 1,
    maxLength: 2,
    selector: ({ layer }) => layer,
  })
  .map((layers) => layers.map((layer): Counter => ({ ...layer, key: KEY })));

const step = fc.record({
  counters,
  policy: fc.constantFrom("p", "q"),
  method: fc.constantFrom("consume", "consume", "consume", "check", "rollBack", "settle", "release"),
  cost: fc.oneof(
    fc.integer({ min: 1, max: 3 }),
    fc.dictionary(fc.constantFrom("a", "b"), fc.integer({ min: 0, max: 3 })),
  ),
  /** Few ids, so that they return within their window and after it. */
  id: fc.nat({ max: 8 }),
  identity: fc.constantFrom("a=1,b=1", "a=1,b=1", "a=1,b=1", "a=1", "b=1", "a=2,b=1", "a=1~shadow"),
  /** How many steps back the attempt is that is rolled back or retried. */
  back: fc.integer({ min: 1, max: 6 }),
  isRetry: fc.boolean(),
  windowMs: fc.constantFrom(1_000, 5_000, 20_000),
  isOnlyPart: fc.boolean(),
  advanceMs: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(0, 0, 1, 999, 1_000) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 9_000 }) },
  ),
  before: fc.oneof(
    { weight: 20, arbitrary: fc.constant("nothing" as const) },
    { weight: 1, arbitrary: fc.constantFrom("sweep", "override", "override", "lift", "exempt") },
  ),
  override: limits,
  overrideMs: fc.integer({ min: 1, max: 60_000 }),
});

/** The cost, lowered to what the limits can ever admit. */
function fitting(cost: Cost, counters: readonly Counter[]): Cost {
  const costLimits = (of: readonly Counter[]) =>
    of.flatMap(({ limits }) => limits.flatMap(({ kind, max }) => (kind === undefined ? max : [])));
  if (typeof cost === "number") return Math.min(cost, ...costLimits(counters));
  const ofLayer = (name: string) => costLimits(counters.filter(({ layer }) => layer === name));
  return Object.fromEntries(
    Object.entries(cost).map(([layer, ofThis]) => [layer, Math.min(ofThis, ...ofLayer(layer))]),
  );
}

test.each([1, 150, 2_000])(
  "an account in memory and the same account read back from storage give the same verdicts, on pages of %d characters",
  (pageChars) => {
    let [admitted, replayed, found] = [0, 0, 0];
    fc.assert(
      fc.property(fc.array(step, { minLength: 150, maxLength: 150, size: "max" }), (history) => {
        const disk = new Disk();
        const open = (from: Disk) => new Ledger(from, new MemoryBudget(10_000_000), pageChars, CLOCK_MARGIN_MS);
        const ledger = open(disk);
        let nowMs = 1_800_000_000_000;
        // A ledger knows the attempts that it has denied or rolled back, but not those from before it was opened.
        const endedAttempts = new Set<number>();
        for (const [i, step] of history.entries()) {
          const { before, override, overrideMs, advanceMs, method, counters, id, back, isRetry, ...rest } = step;
          const isEarlierAttempt = method === "rollBack" || (isRetry && !endedAttempts.has(i - back));
          const attempt = isEarlierAttempt ? i - back : i;
          nowMs += advanceMs;
          const ends = { inMs: overrideMs };
          const layers = [{ policy: rest.policy, layer: "a", limits: override }];
          if (before === "override") ledger.setOverride(KEY, { kind: "limits", reason: "r", ends, layers }, nowMs);
          if (before === "exempt") ledger.setOverride(KEY, { kind: "exempt", reason: "r", ends }, nowMs);
          if (before === "lift") ledger.liftOverride(KEY, nowMs);
          if (before === "sweep") for (const _ of ledger.sweep(nowMs));
          const cost = fitting(rest.cost, counters);
          const question: Charge = { ...rest, attempt: `${attempt}`, id: `id-${id}`, cost, counters, attemptMs: 500 };
          const call = { method, question } as Call;
          const reopened = open(disk.copy());
          const results = ledger.decide([call], nowMs);
          expect(results).toEqual(reopened.decide([call], nowMs));
          const [result] = results;
          if (!result || !("verdict" in result)) throw new Error(result?.error);
          const { verdict } = result;
          if (method === "rollBack" || (method === "consume" && !verdict.allowed)) endedAttempts.add(attempt);
          if ("charged" in verdict && verdict.charged) admitted++;
          if ("replayed" in verdict && verdict.replayed) replayed++;
          if ("found" in verdict && verdict.found) found++;
        }
      }),
      { numRuns: 60 },
    );
    expect(Math.min(admitted, replayed, found)).toBeGreaterThan(100);
  },
  60_000,
);
