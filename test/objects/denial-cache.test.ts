import fc from "fast-check";
import { expect, test } from "vitest";
import { check, leavingsOf } from "../../src/core/decide";
import type { Limit } from "../../src/core/limit";
import { EventLog } from "../../src/core/sliding-window";
import type { ObjectVerdict, Question } from "../../src/object/protocol";
import { DenialCache } from "../../src/objects/denial-cache";

const LIMITS = [{ max: 5, windowMs: 60_000 }];
const question = (user: string, cost = 1, policy = "chat"): Question => ({
  policy,
  cost,
  counters: [{ layer: "caller", key: `user:${user}`, limits: LIMITS }],
});
const denial = (fitsInMs: number): ObjectVerdict => ({
  allowed: false,
  atMs: 0,
  standings: [[{ used: 5, fitsInMs, freesInMs: fitsInMs, resetsInMs: fitsInMs + 100 }]],
  leavings: [[[fitsInMs, 1, fitsInMs + 100, 4]]],
});

function remember(cache: DenialCache, question: Question, verdict: ObjectVerdict): void {
  cache.remember(cache.asking(question), verdict);
}

/** What the cache denies. Undefined if the objects must be asked, or are being asked. */
function deniedBy(cache: DenialCache, asked: Question): ObjectVerdict | "lower-cost-denied" | undefined {
  const recalled = cache.recall(asked);
  return recalled === "revalidating" || recalled === "expired" ? undefined : recalled;
}

/** The cached denial of exactly this cost. */
function denialOf(cache: DenialCache, asked: Question): ObjectVerdict | undefined {
  const recalled = deniedBy(cache, asked);
  return typeof recalled === "object" ? recalled : undefined;
}

/** A cache on a clock of its own. */
function cacheAt(mostMs: number) {
  const clock = { ms: 1_000_000 };
  return { clock, cache: new DenialCache(mostMs, () => clock.ms) };
}

test("a denial holds until enough has left, counted from its question, and its waits count down from its answer", () => {
  const { clock, cache } = cacheAt(10_000);
  const askedAtMs = clock.ms;
  const asked = cache.asking(question("u"));
  clock.ms += 30;
  cache.remember(asked, denial(500));
  clock.ms += 100;
  expect(denialOf(cache, question("u"))?.standings).toEqual([
    [{ used: 5, fitsInMs: 400, freesInMs: 400, resetsInMs: 500 }],
  ]);
  clock.ms = askedAtMs + 499;
  expect(denialOf(cache, question("u"))?.standings[0]?.[0]?.fitsInMs).toBe(31);
  clock.ms = askedAtMs + 500;
  expect(deniedBy(cache, question("u"))).toBeUndefined();
});

test("an override counts down with the denial", () => {
  const { clock, cache } = cacheAt(10_000);
  const override = { kind: "exempt", endsInMs: 500, ownFitsInMs: 30_000 } as const;
  remember(cache, question("u"), { ...denial(60_000), overrides: [override, null] });
  clock.ms += 499;
  expect(denialOf(cache, question("u"))?.overrides).toEqual([
    { kind: "exempt", endsInMs: 1, ownFitsInMs: 29_501 },
    null,
  ]);
  clock.ms += 1;
  expect(deniedBy(cache, question("u"))).toBeUndefined();
});

test("every figure is what the object would say at that instant, as long as the denial is cached", async () => {
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
        const { clock, cache } = cacheAt(mostMs);
        const log = new EventLog();
        for (const { afterMs, cost, released } of events) {
          clock.ms += afterMs;
          log.record({ atMs: clock.ms, cost, released, retainMs: 10_000 });
        }
        const asked = { policy: "p", cost: 3, counters: [{ layer: "l", key: "k:1", limits: limits as Limit[] }] };
        const counters = [{ log, limits: limits as Limit[], cost: 3 }];
        const verdict = { ...check(counters, clock.ms), atMs: clock.ms };
        remember(cache, asked, { ...verdict, leavings: leavingsOf(counters, clock.ms, mostMs) });
        for (const ms of laterMs) {
          clock.ms += ms;
          const denial = denialOf(cache, asked);
          if (!denial) continue;
          recalls++;
          expect(denial.standings).toEqual(check(counters, clock.ms).standings);
        }
      },
    ),
    { numRuns: 400 },
  );
  expect(recalls).toBeGreaterThan(200);
});

test("a denial is cached no longer than its figures were foretold", () => {
  const { clock, cache } = cacheAt(10_000);
  const log = new EventLog();
  const limits = [{ max: 40, windowMs: 1_000 }];
  for (let i = 0; i < 40; i++) log.record({ atMs: clock.ms + i, cost: 1, released: false, retainMs: 1_000 });
  clock.ms += 900;
  const counters = [{ log, limits, cost: 40 }];
  const asked = { ...question("u", 40), counters: [{ layer: "caller", key: "user:u", limits }] };
  const verdict = { ...check(counters, clock.ms), atMs: clock.ms };
  remember(cache, asked, { ...verdict, leavings: leavingsOf(counters, clock.ms, 10_000) });
  // The last of 32 leaves after 131 ms.
  clock.ms += 130;
  expect(denialOf(cache, asked)?.standings[0]?.[0]).toMatchObject({ used: 9, freesInMs: 1 });
  clock.ms += 1;
  expect(deniedBy(cache, asked)).toBeUndefined();
});

test("a verdict without leavings is not cached", () => {
  const { cache } = cacheAt(1_000);
  const { leavings, ...verdict } = denial(500);
  remember(cache, question("u"), verdict);
  expect(cache.recall(question("u"))).toBeUndefined();
});

test("a denial is used for the cache's time at most, and not after the clock went back behind it", () => {
  const { clock, cache } = cacheAt(1_000);
  const askedAtMs = clock.ms;
  remember(cache, question("u"), denial(60_000));
  for (const [ms, isDenied] of [
    [999, true],
    [1_000, false],
    [0, true],
    [-1, false],
  ] as const) {
    clock.ms = askedAtMs + ms;
    expect([ms, deniedBy(cache, question("u")) !== undefined]).toEqual([ms, isDenied]);
  }
});

test("one request revalidates an expired denial, and the others see that it does", () => {
  const { clock, cache } = cacheAt(1_000);
  remember(cache, question("u"), denial(60_000));
  clock.ms += 1_000;
  expect(cache.recall(question("u"))).toBe("expired");
  const asking = cache.asking(question("u"));
  expect([question("u"), question("v")].map((asked) => cache.recall(asked))).toEqual(["revalidating", undefined]);
  cache.remember(asking, denial(59_000));
  expect(denialOf(cache, question("u"))).toBeDefined();
});

test("a revalidation that fails lets another request ask", () => {
  const { clock, cache } = cacheAt(1_000);
  remember(cache, question("u"), denial(60_000));
  clock.ms += 1_000;
  const asking = cache.asking(question("u"));
  expect(cache.recall(question("u"))).toBe("revalidating");
  cache.forget(asking);
  expect(cache.recall(question("u"))).toBe("expired");
});

test("nobody waits for a revalidation whose verdict would be too old", () => {
  const { clock, cache } = cacheAt(1_000);
  remember(cache, question("u"), denial(60_000));
  clock.ms += 1_000;
  cache.asking(question("u"));
  clock.ms += 999;
  expect(cache.recall(question("u"))).toBe("revalidating");
  clock.ms += 1;
  expect(cache.recall(question("u"))).toBe("expired");
});

test("nobody waits once enough has left the window, or an admission came", () => {
  const { clock, cache } = cacheAt(1_000);
  remember(cache, question("u"), denial(1_500));
  clock.ms += 1_500;
  cache.asking(question("u"));
  expect(cache.recall(question("u"))).toBeUndefined();
  remember(cache, question("v"), denial(60_000));
  remember(cache, question("v"), { ...denial(60_000), allowed: true });
  clock.ms += 1_000;
  cache.asking(question("v"));
  expect(cache.recall(question("v"))).toBeUndefined();
});

test("a verdict that was in flight during an invalidation or a clear is not cached", () => {
  for (const makeRoom of [
    (cache: DenialCache) => cache.invalidate(["ip:1", "user:u"]),
    (cache: DenialCache) => cache.clear(),
  ]) {
    const { cache } = cacheAt(1_000);
    const asking = cache.asking(question("u"));
    makeRoom(cache);
    cache.remember(asking, denial(60_000));
    expect(cache.recall(question("u"))).toBeUndefined();
    remember(cache, question("u"), denial(60_000));
    expect(cache.recall(question("u"))).toBeDefined();
  }
});

test("an admission is not cached, and a cache of 0 ms holds nothing", () => {
  const { cache } = cacheAt(1_000);
  remember(cache, question("u"), { ...denial(60_000), allowed: true });
  expect(deniedBy(cache, question("u"))).toBeUndefined();
  const none = cacheAt(0);
  remember(none.cache, question("u"), denial(60_000));
  expect(deniedBy(none.cache, question("u"))).toBeUndefined();
});

test("another subject, policy, layer or limit is another question", () => {
  const { cache } = cacheAt(1_000);
  const [counter] = question("u").counters;
  remember(cache, question("u"), denial(60_000));
  expect(deniedBy(cache, question("u"))).toBeDefined();
  for (const other of [
    question("v"),
    question("u", 1, "upload"),
    { ...question("u"), counters: [{ ...counter, layer: "other" }] },
    { ...question("u"), counters: [{ ...counter, limits: [{ max: 6, windowMs: 60_000 }] }] },
    { ...question("u"), counters: [{ ...counter, limits: [{ kind: "concurrent", max: 5, windowMs: 60_000 }] }] },
    { ...question("u"), counters: [counter, counter] },
  ] as Question[])
    expect(deniedBy(cache, other)).toBeUndefined();
});

test("invalidating a key expires every denial by that key, and no other", () => {
  const { cache } = cacheAt(1_000);
  const shared = { layer: "ip", key: "ip:1", limits: LIMITS };
  const at = (user: string) => ({ ...question(user), counters: [...question(user).counters, shared] });
  const all = [at("u"), at("v"), question("u"), question("u1"), question("xu")];
  for (const asked of all) remember(cache, asked, denial(60_000));
  const recalls = () => all.map((asked) => (denialOf(cache, asked) ? "denied" : cache.recall(asked)));
  cache.invalidate(["ip:1"]);
  expect(recalls()).toEqual(["expired", "expired", "denied", "denied", "denied"]);
  cache.invalidate(["user:u"]);
  expect(recalls()).toEqual(["expired", "expired", "expired", "denied", "denied"]);
  remember(cache, at("u"), denial(60_000));
  expect(recalls()).toEqual(["denied", "expired", "expired", "denied", "denied"]);
});

test("a question has eight costs at most", () => {
  const { cache } = cacheAt(1_000);
  for (let cost = 1; cost <= 9; cost++) remember(cache, question("u1", cost), denial(60_000));
  expect(deniedBy(cache, question("u1", 8))).toBeUndefined();
  expect(denialOf(cache, question("u1", 9))).toBeDefined();
});

test("memory is bounded in bytes: thousands of small questions are cached, or dozens of the largest", () => {
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
  const denied: ObjectVerdict = {
    allowed: false,
    atMs: 0,
    standings: Array.from({ length: 8 }, () => Array.from({ length: 8 }, () => full)),
    leavings: Array.from({ length: 8 }, () => Array.from({ length: 8 }, () => [86_400_000, 1])),
  };
  for (const [asked, answer, least, most] of [
    [(i: number) => question(`u${i}`), denial(60_000), 2_000, 8_000],
    [large, denied, 20, 400],
  ] as const) {
    const { cache } = cacheAt(1_000);
    for (let i = 0; i < 10_000; i++) remember(cache, asked(i), answer);
    const isCached = Array.from({ length: 10_000 }, (_, i) => deniedBy(cache, asked(i)) !== undefined);
    const first = isCached.indexOf(true);
    expect(isCached.slice(first).every(Boolean)).toBe(true);
    expect(10_000 - first).toBeGreaterThan(least);
    expect(10_000 - first).toBeLessThan(most);
  }
});

test("denies no cost lower than a denied one, and no longer than the objects said", async () => {
  const steps = fc.array(
    fc.record({
      isVerdict: fc.boolean(),
      user: fc.constantFrom("a", "b"),
      cost: fc.integer({ min: 1, max: 4 }),
      fitsInMs: fc.integer({ min: 1, max: 3_000 }),
      laterMs: fc.integer({ min: 0, max: 700 }),
    }),
    { maxLength: 60 },
  );
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 2_000 }), async (steps, mostMs) => {
      const { clock, cache } = cacheAt(mostMs);
      const denied: { user: string; cost: number; untilMs: number }[] = [];
      for (const { isVerdict, user, cost, fitsInMs, laterMs } of steps) {
        clock.ms += laterMs;
        if (isVerdict) {
          remember(cache, question(user, cost), denial(fitsInMs));
          denied.push({ user, cost, untilMs: clock.ms + Math.min(mostMs, fitsInMs) });
          continue;
        }
        const isDenied = deniedBy(cache, question(user, cost)) !== undefined;
        const reason = denied.some(
          (denial) => denial.user === user && denial.cost <= cost && clock.ms < denial.untilMs,
        );
        if (isDenied) expect(reason).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test("a cached denial by layer denies the same cost, and costs that are lower in no layer", () => {
  const { cache } = cacheAt(10_000);
  const byLayer = (cost: Question["cost"]): Question => ({
    policy: "llm",
    cost,
    counters: ["requests", "tokens"].map((layer) => ({ layer, key: "user:u", limits: LIMITS })),
  });
  const [standing, left] = [denial(500).standings[0] ?? [], denial(500).leavings?.[0] ?? []];
  const verdict = { ...denial(500), standings: [standing, standing], leavings: [left, left] };
  remember(cache, byLayer({ requests: 1, tokens: 3 }), verdict);
  expect(denialOf(cache, byLayer({ tokens: 3, requests: 1 }))).toBeDefined();
  for (const higher of [{ requests: 1, tokens: 4 }, { requests: 2, tokens: 3 }, 3])
    expect(deniedBy(cache, byLayer(higher))).toBe("lower-cost-denied");
  for (const other of [{ requests: 0, tokens: 5 }, { requests: 5, tokens: 0 }, { requests: 5, tokens: 2 }, 2])
    expect(deniedBy(cache, byLayer(other))).toBeUndefined();
});
