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
  clock.ms += 700;
  expect(denialOf(denials, question("u"))?.overrides).toEqual([
    { kind: "exempt", endsInMs: -200, ownFitsInMs: 29_300 },
    null,
  ]);
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

test("memory is bounded: of subjects the last are remembered, of a subject a few costs", async () => {
  const { denials } = denialsAt(1_000);
  for (let i = 0; i <= 5_000; i++) await learn(denials, question(`u${i}`), denial(60_000));
  expect([0, 1, 5_000].map((i) => recalled(denials, question(`u${i}`)) !== undefined)).toEqual([false, true, true]);
  for (let cost = 1; cost <= 9; cost++) await learn(denials, question("u1", cost), denial(60_000));
  expect(recalled(denials, question("u1", 8))).toBeUndefined();
  expect(denialOf(denials, question("u1", 9))).toBeDefined();
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
