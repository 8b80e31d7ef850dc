import fc from "fast-check";
import { expect, test } from "vitest";
import { Denials } from "../../src/edge/denials";
import type { Answer, Question } from "../../src/object/protocol";

const LIMITS = [{ max: 5, windowMs: 60_000 }];
const question = (user: string, cost = 1, policy = "chat"): Question => ({
  policy,
  cost,
  counters: [{ layer: "caller", key: `user:${user}`, limits: LIMITS }],
});
const denial = (fitsInMs: number): Answer => ({
  allowed: false,
  atMs: 0,
  standings: [[{ used: 5, fitsInMs, freesInMs: fitsInMs, resetsInMs: fitsInMs + 100 }]],
});

/** Denials on a clock of its own. */
function denialsAt(mostMs: number) {
  const clock = { ms: 1_000_000 };
  return { clock, denials: new Denials(mostMs, () => clock.ms) };
}

test("a denial holds until enough has left, from when it was asked for, and its waits count down from its answer", () => {
  const { clock, denials } = denialsAt(10_000);
  const askedAtMs = clock.ms;
  clock.ms += 30;
  denials.learn(question("u"), denial(500), askedAtMs);
  clock.ms += 100;
  expect(denials.recall(question("u"))?.answer?.standings).toEqual([
    [{ used: 5, fitsInMs: 400, freesInMs: 400, resetsInMs: 500 }],
  ]);
  clock.ms = askedAtMs + 499;
  expect(denials.recall(question("u"))?.answer?.standings[0]?.[0]?.fitsInMs).toBe(31);
  clock.ms = askedAtMs + 500;
  expect(denials.recall(question("u"))).toBeUndefined();
});

test("a denial is believed for as long as it may be at most, and not when the clock went back behind it", () => {
  const { clock, denials } = denialsAt(1_000);
  const askedAtMs = clock.ms;
  denials.learn(question("u"), denial(60_000), askedAtMs);
  for (const [ms, isKnown] of [
    [999, true],
    [1_000, false],
    [0, true],
    [-1, false],
  ] as const) {
    clock.ms = askedAtMs + ms;
    expect([ms, denials.recall(question("u")) !== undefined]).toEqual([ms, isKnown]);
  }
});

test("nothing is remembered of an admission, and nothing at all for 0 ms", () => {
  const { clock, denials } = denialsAt(1_000);
  denials.learn(question("u"), { ...denial(60_000), allowed: true }, clock.ms);
  expect(denials.recall(question("u"))).toBeUndefined();
  const none = denialsAt(0);
  none.denials.learn(question("u"), denial(60_000), none.clock.ms);
  expect(none.denials.recall(question("u"))).toBeUndefined();
});

test("another subject, policy, layer or limit is another question", () => {
  const { clock, denials } = denialsAt(1_000);
  const [counter] = question("u").counters;
  denials.learn(question("u"), denial(60_000), clock.ms);
  expect(denials.recall(question("u"))).toBeDefined();
  for (const other of [
    question("v"),
    question("u", 1, "upload"),
    { ...question("u"), counters: [{ ...counter, layer: "other" }] },
    { ...question("u"), counters: [{ ...counter, limits: [{ max: 6, windowMs: 60_000 }] }] },
    { ...question("u"), counters: [counter, counter] },
  ] as Question[])
    expect(denials.recall(other)).toBeUndefined();
});

test("a key that is forgotten takes its subjects with it, and no other whose name begins alike", () => {
  const { clock, denials } = denialsAt(1_000);
  for (const user of ["u", "u1", "xu"]) denials.learn(question(user), denial(60_000), clock.ms);
  denials.forgetKey("user:u");
  expect(["u", "u1", "xu"].map((user) => denials.recall(question(user)) !== undefined)).toEqual([false, true, true]);
});

test("memory is bounded: of subjects the last are remembered, of a subject a few costs", () => {
  const { clock, denials } = denialsAt(1_000);
  for (let i = 0; i <= 5_000; i++) denials.learn(question(`u${i}`), denial(60_000), clock.ms);
  expect([0, 1, 5_000].map((i) => denials.recall(question(`u${i}`)) !== undefined)).toEqual([false, true, true]);
  for (let cost = 1; cost <= 9; cost++) denials.learn(question("u1", cost), denial(60_000), clock.ms);
  expect(denials.recall(question("u1", 8))).toBeUndefined();
  expect(denials.recall(question("u1", 9))?.answer).toBeDefined();
});

test("never denies what was not denied for as little, or for longer than was said", () => {
  const steps = fc.array(
    fc.record({
      learns: fc.boolean(),
      user: fc.constantFrom("a", "b"),
      cost: fc.integer({ min: 1, max: 4 }),
      fitsInMs: fc.integer({ min: 1, max: 3_000 }),
      laterMs: fc.integer({ min: 0, max: 700 }),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 2_000 }), (steps, mostMs) => {
      const { clock, denials } = denialsAt(mostMs);
      const told: { user: string; cost: number; untilMs: number }[] = [];
      for (const { learns, user, cost, fitsInMs, laterMs } of steps) {
        clock.ms += laterMs;
        if (learns) {
          denials.learn(question(user, cost), denial(fitsInMs), clock.ms);
          told.push({ user, cost, untilMs: clock.ms + Math.min(mostMs, fitsInMs) });
          continue;
        }
        const isDenied = denials.recall(question(user, cost)) !== undefined;
        const reason = told.some((one) => one.user === user && one.cost <= cost && clock.ms < one.untilMs);
        if (isDenied) expect(reason).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
