import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Call } from "../../src/object/protocol";
import { Chance } from "../../tools/chance";
import { BatchWorld, type Fate, type Reply } from "./world";

let errors: ReturnType<typeof vi.spyOn>;
// The limiter logs every lost call, and many are lost here on purpose.
beforeEach(() => {
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => errors.mockRestore());

const LAYERS = {
  upload: [
    { name: "caller", by: ["user", "ip"], limits: ["2/hour"] },
    { name: "ip", by: ["ip"], limits: ["3/hour"] },
  ],
  jobs: [
    { name: "caller", by: ["user", "ip"], limits: ["2 concurrent per 1 hour", "4/hour"] },
    { name: "ip", by: ["ip"], limits: ["3/hour", "2 concurrent per 1 hour"] },
  ],
};
const DEADLINE_MS = 1_000;

const statuses = (replies: readonly Reply[]) => replies.map(({ status }) => status);
const about = (op: string, user: string | undefined, ip: number, more: object = {}) => ({
  op,
  policy: "upload",
  subject: { user, ip: `10.0.0.${ip}` },
  ...more,
});
const consume = (user: string | undefined, ip: number, more: object = {}) => about("consume", user, ip, more);

/** User `full` has used up the caller limit. Address 1 has room for one more consume. */
async function almostFull(fateOf?: BatchWorld["fateOf"], variables: Record<string, string> = {}): Promise<BatchWorld> {
  const world = new BatchWorld(LAYERS, undefined, variables);
  expect(statuses(await world.singly([consume("full", 1), consume("full", 2), consume("x", 1)]))).toEqual([
    200, 200, 200,
  ]);
  world.forgetMessages();
  if (fateOf) world.fateOf = fateOf;
  return world;
}

describe("a batch over several objects", () => {
  test("denies no call because of another call's charge that is rolled back", async () => {
    const world = await almostFull();
    const requests = [consume("full", 1), about("check", "b", 1), consume("b", 1), consume("c", 1)];
    expect(statuses(await world.batch(requests))).toEqual([429, 200, 200, 429]);
    expect(world.received.filter(({ object }) => object.startsWith("ip:")).map(({ calls }) => calls.length)).toEqual([
      // All four calls, then the rollback of the first, then the three that are decided again.
      4, 1, 3,
    ]);
    expect(await world.used("upload", { user: "b", ip: "10.0.0.1" })).toEqual([1, 3]);
    expect(await world.used("upload", { user: "c", ip: "10.0.0.1" })).toEqual([0, 3]);
  });

  test("answers a check as if the calls before it had ended", async () => {
    const world = await almostFull();
    const [, checked] = await world.batch([consume("full", 1), about("check", "b", 1)]);
    expect(checked?.body).toMatchObject({ allowed: true, limits: [{ used: 0 }, { used: 2 }] });
  });

  test("asks no object again about a denial that no other call of the batch has caused", async () => {
    const world = await almostFull();
    const requests = [consume("full", 3), consume("full", 3), consume("full", 3), consume("y", 4)];
    expect(statuses(await world.batch(requests))).toEqual([429, 429, 429, 200]);
    expect(world.sentTo("user:full").length).toBe(1);
    expect(world.sentTo("ip:10.0.0.3").length).toBe(2);
  });

  test("reports waits without charges that are rolled back, with one more call to each object", async () => {
    const layers = [
      { name: "user", by: ["user"], limits: ["1 per 3 seconds"] },
      { name: "ip", by: ["ip"], limits: ["30/hour"] },
    ];
    const world = new BatchWorld({ upload: layers });
    await world.singly([consume("full", 1)]);
    world.forgetMessages();
    const replies = await world.batch(Array.from({ length: 100 }, () => consume("full", 2)));
    expect(replies.map(({ status, body }) => [status, body.retry_after_seconds])).toEqual(
      Array.from({ length: 100 }, () => [429, 3]),
    );
    expect([world.sentTo("user:full").length, world.sentTo("ip:10.0.0.2").length]).toEqual([2, 3]);
  });

  test.each([
    ["settle", { cost: 0 }],
    ["release", {}],
  ] as const)(
    "does not find a denied consume for its %s, even if its charge was there for a moment",
    async (op, more) => {
      const world = await almostFull();
      const requests = [
        consume("full", 1, { idempotency_key: "k" }),
        about(op, "full", 1, { id: "k", ...more }),
        consume("b", 1),
      ];
      expect(statuses(await world.batch(requests))).toEqual([429, 404, 200]);
    },
  );

  test.each([
    ["settle", { cost: 0 }],
    ["release", {}],
  ] as const)("finds, for its %s, a consume that was decided again and admitted", async (op, more) => {
    const world = await almostFull();
    const requests = [
      consume("full", 1),
      consume("b", 1, { idempotency_key: "k" }),
      about(op, "b", 1, { id: "k", ...more }),
    ];
    expect(statuses(await world.batch(requests))).toEqual([429, 200, 200]);
  });

  test("finds, for its settle, a consume that was decided again and admitted in one object alone", async () => {
    const world = await almostFull();
    const requests = [
      consume("full", 1),
      consume(undefined, 1, { idempotency_key: "k" }),
      about("settle", undefined, 1, { id: "k", cost: 0 }),
    ];
    expect(statuses(await world.batch(requests))).toEqual([429, 200, 200]);
  });

  test("decides a call again with the settles that come before it", async () => {
    const world = await almostFull();
    const requests = [
      consume("full", 1),
      consume("b", 1, { idempotency_key: "k" }),
      about("settle", "b", 1, { id: "k", cost: 0 }),
      consume("c", 1),
      consume("d", 1),
    ];
    expect(statuses(await world.batch(requests))).toEqual([429, 200, 200, 200, 429]);
  });

  test.each([
    ["settle", about("settle", "u", 1, { id: "K", cost: 0 })],
    ["release", about("release", "u", 1, { id: "K" })],
    ["another consume", consume("u", 1)],
  ])("keeps its order if an id is used again after its window: before %s", async (_, next) => {
    const layers = [
      { name: "user", by: ["user"], limits: ["1/minute"] },
      { name: "ip", by: ["ip"], limits: ["9/minute"] },
    ];
    const statusesOf = async (how: "batch" | "singly") => {
      const world = new BatchWorld({ upload: layers });
      const again = consume("u", 1, { idempotency_key: "K" });
      await world.batch([again]);
      world.scheduler.nowMs += 61_000;
      return statuses(await world[how]([again, next]));
    };
    expect(await statusesOf("batch")).toEqual(await statusesOf("singly"));
  });

  test("does not take an idempotency key for used if its consume was denied", async () => {
    const world = await almostFull();
    const requests = [
      consume("full", 1, { idempotency_key: "k" }),
      consume("full", 1, { idempotency_key: "k", cost: 2 }),
    ];
    expect(statuses(await world.batch(requests))).toEqual([429, 429]);
  });

  test("decides a denial again within the deadline if its cause is rolled back because another object is unreachable", async () => {
    const world = await almostFull((object) => ({ lost: object === "user:unreachable" ? "both" : undefined }));
    const startMs = world.scheduler.nowMs;
    expect(statuses(await world.batch([consume("unreachable", 1), consume("b", 1)]))).toEqual([503, 200]);
    expect(world.repliedAtMs - startMs).toBeLessThanOrEqual(DEADLINE_MS);
  });

  test("caches no denial whose cause may still be rolled back", async () => {
    const hasRollback = (calls: readonly Call[]) => calls.some(({ method }) => method === "rollBack");
    const world = await almostFull((_, calls) => ({ lost: hasRollback(calls) ? "both" : undefined }), {
      RATE_LIMIT_DENY_CACHE_MS: "60000",
    });
    expect(statuses(await world.batch([consume("full", 1), consume("b", 1)]))).toEqual([429, 429]);
    world.forgetMessages();
    await world.singly([consume("b", 1)]);
    expect(world.sent.length).toBeGreaterThan(0);
  });

  test("answers a call as if it were alone if another call's object is unreachable", async () => {
    const layers = [
      { name: "user", by: ["user"], limits: ["1 per 3 seconds"] },
      { name: "ip", by: ["ip"], limits: ["1/hour"] },
    ];
    const world = new BatchWorld({ upload: layers });
    await world.singly([consume("a", 1)]);
    world.fateOf = (object) => ({ lost: object === "user:unreachable" ? "both" : undefined });
    const [denied, failed] = await world.batch([consume("a", 2), consume("unreachable", 3)]);
    expect([denied?.status, denied?.body.retry_after_seconds, failed?.status]).toEqual([429, 3, 503]);
    expect(denied?.body.limits?.map(({ used }) => used)).toEqual([1, 0]);
  });

  test("keeps its order if a message to an object is lost and retried", async () => {
    for (const lost of ["question", "answer"] as const) {
      const world = new BatchWorld({ one: [{ name: "user", by: ["user"], limits: ["1/minute"] }] });
      let messages = 0;
      world.fateOf = () => ({ lost: messages++ === 0 ? lost : undefined });
      const request = (op: string, more: object) => ({ op, policy: "one", subject: { user: "u" }, ...more });
      const requests = [
        request("consume", { idempotency_key: "first" }),
        request("settle", { id: "first", cost: 0 }),
        request("consume", { idempotency_key: "second" }),
      ];
      expect(statuses(await world.batch(requests))).toEqual([200, 200, 200]);
      const calls = ["consume first", "settle first", "consume second"];
      expect(world.received.map(({ calls }) => calls)).toEqual(lost === "answer" ? [calls, calls] : [calls]);
    }
  });
});

/** Calls of three users and of anonymous callers, at two addresses: few keys, so that calls meet. */
const step = fc.record({
  op: fc.constantFrom("consume", "consume", "consume", "check", "settle", "release"),
  policy: fc.constantFrom("upload", "upload", "jobs"),
  user: fc.constantFrom("u0", "u1", "u2", undefined),
  ip: fc.nat({ max: 1 }),
  key: fc.option(fc.nat({ max: 2 }), { nil: undefined, freq: 1 }),
});

function requestOf({ op, policy, user, ip, key }: typeof step extends fc.Arbitrary<infer S> ? S : never) {
  const isChange = op === "settle" || op === "release";
  return about(op, user, ip, {
    policy,
    ...(op === "settle" && { cost: 0 }),
    ...(op === "consume" && key !== undefined && { idempotency_key: `k${key}` }),
    ...(isChange && { id: `k${key ?? 0}` }),
  });
}

/** Messages take a random time and may be lost on either way, up to 3 times in a row. */
function someFates(seed: number, losses: number): (object: string) => Fate {
  const chance = new Chance(seed);
  const lostInARow = new Map<string, number>();
  return (object) => {
    const lostBefore = lostInARow.get(object) ?? 0;
    const isLost = lostBefore < 3 && chance.is(losses);
    lostInARow.set(object, isLost ? lostBefore + 1 : 0);
    return { delayMs: 1 + chance.below(20), lost: isLost ? chance.of(["question", "answer"] as const) : undefined };
  };
}

const AMPLE = { RATE_LIMIT_DEADLINE_MS: "60000" };

test("a batch over several objects answers as if its calls were made one after the other", async () => {
  const users = ["u0", "u1", "u2", undefined];
  const subjects = users.flatMap((user) => [0, 1].map((ip) => ({ user, ip: `10.0.0.${ip}` })));
  let mixedBatches = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 6 }),
      fc.array(step, { minLength: 2, maxLength: 10 }),
      fc.array(step, { maxLength: 3 }),
      fc.integer(),
      fc.constantFrom(0, 0.3),
      async (before, together, after, seed, losses) => {
        const newWorld = (seed: number) => new BatchWorld(LAYERS, someFates(seed, losses), AMPLE);
        const [reference, world] = [newWorld(seed), newWorld(seed + 1)];
        for (const each of [reference, world]) await each.singly(before.map(requestOf));
        const singly = await reference.singly(together.map(requestOf));
        const batched = await world.batch(together.map(requestOf));
        expect(statuses(batched)).toEqual(statuses(singly));
        expect(batched.map(({ body }) => body.replayed)).toEqual(singly.map(({ body }) => body.replayed));
        // Denials that did not last are neither charged nor cached.
        expect(statuses(await world.singly(after.map(requestOf)))).toEqual(
          statuses(await reference.singly(after.map(requestOf))),
        );
        for (const policy of ["upload", "jobs"])
          for (const subject of subjects)
            expect(await world.used(policy, subject)).toEqual(await reference.used(policy, subject));
        if (new Set(statuses(singly)).size > 1) mixedBatches++;
      },
    ),
    { numRuns: 250 },
  );
  expect(mixedBatches).toBeGreaterThan(50);
}, 60_000);

test("each object gets one message at a time, in the order of the batch, and a lost message again unchanged", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ user: fc.nat({ max: 2 }), ip: fc.nat({ max: 1 }) }), { minLength: 2, maxLength: 20 }),
      fc.integer(),
      fc.constantFrom(0, 0.3, 0.6),
      async (calls, seed, losses) => {
        const world = new BatchWorld(LAYERS, someFates(seed, losses), AMPLE);
        await world.batch(
          calls.map(({ user, ip }, i) =>
            consume(`u${user}`, ip, { idempotency_key: `k${String(i).padStart(2, "0")}` }),
          ),
        );
        expect(world.mostInFlight).toBe(1);
        for (const object of new Set(world.sent.map(({ object }) => object))) {
          const sent = world.sentTo(object);
          const [first] = sent;
          expect(first?.calls).toEqual([...(first?.calls ?? [])].sort());
          sent.forEach(({ calls, isLost }, i) => {
            if (isLost) expect(sent[i + 1]?.calls).toEqual(calls);
          });
        }
      },
    ),
    { numRuns: 200 },
  );
}, 60_000);

describe("a decision is answered within its deadline", () => {
  /** The status of the reply, and how long it took. */
  async function timed(world: BatchWorld, request: object) {
    const startMs = world.scheduler.nowMs;
    const [reply] = await world.batch([request]);
    return { status: reply?.status, tookMs: world.repliedAtMs - startMs };
  }

  test.each(["question", "both"] as const)("even if a rollback is lost: %s", async (lost) => {
    const world = await almostFull((object, calls) => {
      if (calls.some(({ method }) => method === "rollBack")) return { lost };
      return { delayMs: object === "user:full" ? 300 : 1 };
    });
    const { status, tookMs } = await timed(world, consume("full", 1));
    expect([status, tookMs]).toEqual([429, DEADLINE_MS]);
  });

  test("even if one object is unreachable, with the other object's charge rolled back by then", async () => {
    const world = await almostFull((object) => ({ lost: object === "user:b" ? "both" : undefined, delayMs: 50 }));
    const { status, tookMs } = await timed(world, consume("b", 1));
    expect(status).toBe(503);
    expect(tookMs).toBeLessThanOrEqual(DEADLINE_MS);
    world.fateOf = () => ({});
    expect(await world.used("upload", { user: "x", ip: "10.0.0.1" })).toEqual([1, 2]);
  });

  test.each(["consume", "check", "settle", "release"])(
    "even if layers in shadow are unreachable and live layers were slow: %s",
    async (op) => {
      const layers = [
        { name: "user", by: ["user"], limits: ["5/hour"] },
        { name: "ip", by: ["ip"], limits: ["5/hour"], mode: "shadow" },
      ];
      const world = new BatchWorld({ upload: layers });
      await world.singly([consume("u", 1, { idempotency_key: "k" })]);
      world.fateOf = (object) => (object.startsWith("ip:") ? { lost: "both" } : { delayMs: 350 });
      const more = { settle: { id: "k", cost: 0 }, release: { id: "k" } }[op] ?? {};
      expect(await timed(world, about(op, "u", 1, more))).toEqual({ status: 200, tookMs: DEADLINE_MS });
    },
  );
});
