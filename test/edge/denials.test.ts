import fc from "fast-check";
import { expect, test } from "vitest";
import { check, leavingsOf } from "../../src/core/decide";
import type { Limit } from "../../src/core/limit";
import { EventLog } from "../../src/core/log";
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
  leavings: [[[fitsInMs, 1, fitsInMs + 100, 4]]],
});

async function learn(denials: Denials, asked: Question, answer: Answer): Promise<void> {
  await denials.learning(asked, async () => answer);
}

/** What is denied from memory: undefined when the objects must be asked, or are being asked. */
function recalled(denials: Denials, asked: Question): Answer | "less" | undefined {
  const known = denials.recall(asked);
  return known === "soon" || known === "lapsed" ? undefined : known;
}

/** The same, of which the cost was denied itself. */
function denialOf(denials: Denials, asked: Question): Answer | undefined {
  const known = recalled(denials, asked);
  return typeof known === "object" ? known : undefined;
}

/** Denials on a clock of its own. */
function denialsAt(mostMs: number) {
  const clock = { ms: 1_000_000 };
  return { clock, denials: new Denials(mostMs, () => clock.ms) };
}

test("a denial holds until enough has left, from when it was asked for, and its waits count down from its answer", async () => {
  const { clock, denials } = denialsAt(10_000);
  const askedAtMs = clock.ms;
  await denials.learning(question("u"), async () => {
    clock.ms += 30;
    return denial(500);
  });
  clock.ms += 100;
  expect(denialOf(denials, question("u"))?.standings).toEqual([
    [{ used: 5, fitsInMs: 400, freesInMs: 400, resetsInMs: 500 }],
  ]);
  clock.ms = askedAtMs + 499;
  expect(denialOf(denials, question("u"))?.standings[0]?.[0]?.fitsInMs).toBe(31);
  clock.ms = askedAtMs + 500;
  expect(recalled(denials, question("u"))).toBeUndefined();
});

test("what overrides a counter counts down with it", async () => {
  const { clock, denials } = denialsAt(10_000);
  const override = { kind: "exempt", endsInMs: 500, ownFitsInMs: 30_000 } as const;
  await learn(denials, question("u"), { ...denial(60_000), overrides: [override, null] });
  clock.ms += 499;
  expect(denialOf(denials, question("u"))?.overrides).toEqual([
    { kind: "exempt", endsInMs: 1, ownFitsInMs: 29_501 },
    null,
  ]);
  clock.ms += 1;
  expect(recalled(denials, question("u"))).toBeUndefined();
});

test("every figure is what the object itself would say at that instant, for as long as a denial is believed", async () => {
  const event = fc.record({ afterMs: fc.nat({ max: 40 }), cost: fc.nat({ max: 3 }), released: fc.boolean() });
  const limits = fc.uniqueArray(
    fc.record({
      kind: fc.constantFrom(undefined, "concurrent" as const),
      max: fc.integer({ min: 3, max: 30 }),
      windowMs: fc.constantFrom(300, 1_000, 5_000),
    }),
    { minLength: 1, maxLength: 4, selector: ({ kind, windowMs }) => `${kind} ${windowMs}` },
  );
  let recalls = 0;
  await fc.assert(
    fc.asyncProperty(
      limits,
      fc.array(event, { maxLength: 120, size: "max" }),
      fc.array(fc.nat({ max: 200 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 1_500 }),
      async (limits, events, laterMs, mostMs) => {
        const { clock, denials } = denialsAt(mostMs);
        const log = new EventLog();
        for (const { afterMs, cost, released } of events) {
          clock.ms += afterMs;
          log.record({ atMs: clock.ms, cost, released, retainMs: 10_000 });
        }
        const asked = { policy: "p", cost: 3, counters: [{ layer: "l", key: "k:1", limits: limits as Limit[] }] };
        const counters = [{ log, limits: limits as Limit[] }];
        const said = { ...check(counters, 3, clock.ms), atMs: clock.ms };
        await learn(denials, asked, { ...said, leavings: leavingsOf(counters, clock.ms, mostMs) });
        for (const ms of laterMs) {
          clock.ms += ms;
          const known = denialOf(denials, asked);
          if (!known) continue;
          recalls++;
          expect(known.standings).toEqual(check(counters, 3, clock.ms).standings);
        }
      },
    ),
    { numRuns: 400 },
  );
  expect(recalls).toBeGreaterThan(200);
});

test("a denial is believed no longer than its figures were foretold", async () => {
  const { clock, denials } = denialsAt(10_000);
  const log = new EventLog();
  const limits = [{ max: 40, windowMs: 1_000 }];
  for (let i = 0; i < 40; i++) log.record({ atMs: clock.ms + i, cost: 1, released: false, retainMs: 1_000 });
  clock.ms += 900;
  const counters = [{ log, limits }];
  const asked = { ...question("u", 40), counters: [{ layer: "caller", key: "user:u", limits }] };
  const said = { ...check(counters, 40, clock.ms), atMs: clock.ms };
  await learn(denials, asked, { ...said, leavings: leavingsOf(counters, clock.ms, 10_000) });
  // The last of 32 leaves after 131 ms.
  clock.ms += 130;
  expect(denialOf(denials, asked)?.standings[0]?.[0]).toMatchObject({ used: 9, freesInMs: 1 });
  clock.ms += 1;
  expect(recalled(denials, asked)).toBeUndefined();
});

test("an answer that says nothing of what leaves next is not remembered", async () => {
  const { denials } = denialsAt(1_000);
  const { leavings, ...said } = denial(500);
  await learn(denials, question("u"), said);
  expect(denials.recall(question("u"))).toBeUndefined();
});

test("a denial is believed for as long as it may be at most, and not when the clock went back behind it", async () => {
  const { clock, denials } = denialsAt(1_000);
  const askedAtMs = clock.ms;
  await learn(denials, question("u"), denial(60_000));
  for (const [ms, isKnown] of [
    [999, true],
    [1_000, false],
    [0, true],
    [-1, false],
  ] as const) {
    clock.ms = askedAtMs + ms;
    expect([ms, recalled(denials, question("u")) !== undefined]).toEqual([ms, isKnown]);
  }
});

test("when a denial has lapsed one goes to ask again, and the rest of the flood hears soon what it learns", async () => {
  const { clock, denials } = denialsAt(1_000);
  await learn(denials, question("u"), denial(60_000));
  clock.ms += 1_000;
  expect(denials.recall(question("u"))).toBe("lapsed");
  const asking = denials.learning(question("u"), async () => denial(59_000));
  expect([question("u"), question("v")].map((asked) => denials.recall(asked))).toEqual(["soon", undefined]);
  await asking;
  expect(denialOf(denials, question("u"))).toBeDefined();
});

test("when whoever asks again learns nothing, another one asks", async () => {
  const { clock, denials } = denialsAt(1_000);
  await learn(denials, question("u"), denial(60_000));
  clock.ms += 1_000;
  const asking = denials.learning(question("u"), () => Promise.reject(new Error("lost")));
  expect(denials.recall(question("u"))).toBe("soon");
  await expect(asking).rejects.toThrow("lost");
  expect(denials.recall(question("u"))).toBe("lapsed");
});

test("nobody waits for whoever asked so long ago that the answer would not be believed", async () => {
  const { clock, denials } = denialsAt(1_000);
  await learn(denials, question("u"), denial(60_000));
  clock.ms += 1_000;
  void denials.learning(question("u"), () => new Promise<Answer>(() => {}));
  clock.ms += 999;
  expect(denials.recall(question("u"))).toBe("soon");
  clock.ms += 1;
  expect(denials.recall(question("u"))).toBe("lapsed");
});

test("nobody waits once enough has left the window, or somebody was admitted", async () => {
  const { clock, denials } = denialsAt(1_000);
  const never = () => new Promise<Answer>(() => {});
  await learn(denials, question("u"), denial(1_500));
  clock.ms += 1_500;
  void denials.learning(question("u"), never);
  expect(denials.recall(question("u"))).toBeUndefined();
  await learn(denials, question("v"), denial(60_000));
  await learn(denials, question("v"), { ...denial(60_000), allowed: true });
  clock.ms += 1_000;
  void denials.learning(question("v"), never);
  expect(denials.recall(question("v"))).toBeUndefined();
});

test("what was asked before room was made for one of its keys, or all was forgotten, is not learnt", async () => {
  for (const makeRoom of [
    (denials: Denials) => denials.doubt(["ip:1", "user:u"]),
    (denials: Denials) => denials.forgetAll(),
  ]) {
    const { denials } = denialsAt(1_000);
    const asking = denials.learning(question("u"), async () => denial(60_000));
    makeRoom(denials);
    await asking;
    expect(denials.recall(question("u"))).toBeUndefined();
    await learn(denials, question("u"), denial(60_000));
    expect(denials.recall(question("u"))).toBeDefined();
  }
});

test("nothing is remembered of an admission, and nothing at all for 0 ms", async () => {
  const { denials } = denialsAt(1_000);
  await learn(denials, question("u"), { ...denial(60_000), allowed: true });
  expect(recalled(denials, question("u"))).toBeUndefined();
  const none = denialsAt(0);
  await learn(none.denials, question("u"), denial(60_000));
  expect(recalled(none.denials, question("u"))).toBeUndefined();
});

test("another subject, policy, layer or limit is another question", async () => {
  const { denials } = denialsAt(1_000);
  const [counter] = question("u").counters;
  await learn(denials, question("u"), denial(60_000));
  expect(recalled(denials, question("u"))).toBeDefined();
  for (const other of [
    question("v"),
    question("u", 1, "upload"),
    { ...question("u"), counters: [{ ...counter, layer: "other" }] },
    { ...question("u"), counters: [{ ...counter, limits: [{ max: 6, windowMs: 60_000 }] }] },
    { ...question("u"), counters: [{ ...counter, limits: [{ kind: "concurrent", max: 5, windowMs: 60_000 }] }] },
    { ...question("u"), counters: [counter, counter] },
  ] as Question[])
    expect(recalled(denials, other)).toBeUndefined();
});

test("what was denied by a key is doubtful once room was made for it, to whomever, and nothing else is", async () => {
  const { denials } = denialsAt(1_000);
  const shared = { layer: "ip", key: "ip:1", limits: LIMITS };
  const at = (user: string) => ({ ...question(user), counters: [...question(user).counters, shared] });
  const all = [at("u"), at("v"), question("u"), question("u1"), question("xu")];
  for (const asked of all) await learn(denials, asked, denial(60_000));
  const recalls = () => all.map((asked) => (denialOf(denials, asked) ? "denied" : denials.recall(asked)));
  denials.doubt(["ip:1"]);
  expect(recalls()).toEqual(["lapsed", "lapsed", "denied", "denied", "denied"]);
  denials.doubt(["user:u"]);
  expect(recalls()).toEqual(["lapsed", "lapsed", "lapsed", "denied", "denied"]);
  await learn(denials, at("u"), denial(60_000));
  expect(recalls()).toEqual(["denied", "lapsed", "lapsed", "denied", "denied"]);
});

test("of a subject a few costs are remembered", async () => {
  const { denials } = denialsAt(1_000);
  for (let cost = 1; cost <= 9; cost++) await learn(denials, question("u1", cost), denial(60_000));
  expect(recalled(denials, question("u1", 8))).toBeUndefined();
  expect(denialOf(denials, question("u1", 9))).toBeDefined();
});

test("memory is bounded by bytes: thousands of small questions are remembered, and of the largest a few dozen", async () => {
  const large = (i: number): Question => ({
    policy: "inline",
    cost: 1,
    counters: Array.from({ length: 8 }, (_, c) => ({
      layer: `layer${c}`,
      key: `inline/${i}-${c}-${"k".repeat(200)}`,
      limits: Array.from({ length: 8 }, (_, l) => ({ max: 10, windowMs: 86_400_000 * (l + 1) })),
    })),
  });
  const full = { used: 10, fitsInMs: 86_400_000, freesInMs: 86_400_000, resetsInMs: 86_400_001 };
  const denied: Answer = {
    allowed: false,
    atMs: 0,
    standings: Array.from({ length: 8 }, () => Array.from({ length: 8 }, () => full)),
    leavings: Array.from({ length: 8 }, () => Array.from({ length: 8 }, () => [86_400_000, 1])),
  };
  for (const [asked, answer, least, most] of [
    [(i: number) => question(`u${i}`), denial(60_000), 2_000, 8_000],
    [large, denied, 20, 400],
  ] as const) {
    const { denials } = denialsAt(1_000);
    for (let i = 0; i < 10_000; i++) await learn(denials, asked(i), answer);
    const known = Array.from({ length: 10_000 }, (_, i) => recalled(denials, asked(i)) !== undefined);
    const first = known.indexOf(true);
    expect(known.slice(first).every((isKnown) => isKnown)).toBe(true);
    expect(10_000 - first).toBeGreaterThan(least);
    expect(10_000 - first).toBeLessThan(most);
  }
});

test("never denies what was not denied for as little, or for longer than was said", async () => {
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
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 2_000 }), async (steps, mostMs) => {
      const { clock, denials } = denialsAt(mostMs);
      const told: { user: string; cost: number; untilMs: number }[] = [];
      for (const { learns, user, cost, fitsInMs, laterMs } of steps) {
        clock.ms += laterMs;
        if (learns) {
          await learn(denials, question(user, cost), denial(fitsInMs));
          told.push({ user, cost, untilMs: clock.ms + Math.min(mostMs, fitsInMs) });
          continue;
        }
        const isDenied = recalled(denials, question(user, cost)) !== undefined;
        const reason = told.some((one) => one.user === user && one.cost <= cost && clock.ms < one.untilMs);
        if (isDenied) expect(reason).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
