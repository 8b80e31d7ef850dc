import { describe, expect, test } from "vitest";
import { BatchWorld } from "./world";

const MOST_EVENTS = 3;
const SUBJECT = { user: "u_1", ip: "203.0.113.7" };
const CALLER = { name: "caller", by: ["user"], limits: ["1000000000/minute", "1000000000/week"] };
const IP = { name: "ip", by: ["ip"], limits: ["1000000000/week"] };
const WEEK_S = 7 * 86_400;
const FIRST_AT_MS = 1_800_000_000_000;

const consume = (id: string, more: object = {}) => ({
  op: "consume",
  idempotency_key: id,
  policy: "tokens",
  subject: SUBJECT,
  ...more,
});
const OTHER_IP = { subject: { ...SUBJECT, ip: "203.0.113.8" } };

/** A world in which a counter holds three events, and the counter of the user holds two, which were admitted a second apart. */
async function worldWithTwo(layers: readonly object[] = [CALLER, IP], variables = {}): Promise<BatchWorld> {
  const world = new BatchWorld({ tokens: layers }, undefined, variables, MOST_EVENTS);
  world.scheduler.nowMs = FIRST_AT_MS - 1;
  expect((await world.batch([consume("a", { cost: 999_999_990 })]))[0]?.status).toBe(200);
  world.scheduler.nowMs = FIRST_AT_MS + 999;
  expect((await world.batch([consume("b")]))[0]?.status).toBe(200);
  return world;
}

describe("a consume by a counter that holds as many events as it can", () => {
  test("is a 429 that says so, waits for an event to leave, and charges no other counter", async () => {
    const world = await worldWithTwo();
    expect((await world.batch([consume("c", OTHER_IP)]))[0]?.status).toBe(200);
    const [denied, checked] = await world.batch([
      consume("d", OTHER_IP),
      { op: "check", policy: "tokens", ...OTHER_IP },
    ]);
    expect(denied).toMatchObject({
      status: 429,
      body: {
        allowed: false,
        retry_after_seconds: WEEK_S - 1,
        detail: `The counter of layer "caller" holds 1,000,000 events, the most that a counter can. This cost fits again in ${WEEK_S - 1} s.`,
        "violated-policies": [`caller/${WEEK_S}s`],
      },
    });
    expect(checked?.body).toMatchObject({ allowed: false, retry_after_seconds: WEEK_S - 1 });
    expect(await world.used("tokens", OTHER_IP.subject)).toEqual([999_999_992, 999_999_992, 1]);
  });

  test("is admitted at the instant at which one has left, and not a millisecond earlier", async () => {
    const world = await worldWithTwo();
    expect((await world.batch([consume("c")]))[0]?.status).toBe(200);
    for (const [inMs, status] of [
      [WEEK_S * 1_000 - 1, 429],
      [WEEK_S * 1_000, 200],
    ] as const) {
      world.evict();
      // A call takes a millisecond to its object.
      world.scheduler.nowMs = FIRST_AT_MS + inMs - 1;
      expect((await world.batch([consume("d")]))[0]?.status).toBe(status);
    }
  });

  test("is answered as a replay if its id is known, and leaves settles and releases as they are", async () => {
    const world = await worldWithTwo();
    const [, replayed, settled, released, denied] = await world.batch([
      consume("c"),
      consume("b"),
      { op: "settle", policy: "tokens", subject: SUBJECT, id: "a", cost: 1_000_000_000 },
      { op: "release", policy: "tokens", subject: SUBJECT, id: "a" },
      consume("d"),
    ]);
    expect(replayed).toMatchObject({ status: 200, body: { allowed: true, replayed: true } });
    expect([settled?.status, released?.status, denied?.status]).toEqual([200, 200, 429]);
    expect(await world.used("tokens", SUBJECT)).toEqual([1_000_000_002, 1_000_000_002, 1_000_000_002]);
  });

  test("is told the same from the denial cache, counted down", async () => {
    const world = await worldWithTwo(undefined, { RATE_LIMIT_DENY_CACHE_MS: "5000" });
    await world.batch([consume("c")]);
    const denials = [];
    for (const id of ["d", "e"]) {
      const { body } = (await world.batch([consume(id, { attempt: 1 })]))[0] ?? {};
      denials.push([body?.retry_after_seconds, body?.detail?.includes("holds 1,000,000 events")]);
      world.forgetMessages();
      world.scheduler.nowMs += 2_000;
    }
    expect(world.sent).toEqual([]);
    expect(denials).toEqual([
      [WEEK_S - 1, true],
      [WEEK_S - 3, true],
    ]);
  });

  test("in shadow is admitted, and would have been denied", async () => {
    const world = await worldWithTwo([{ ...CALLER, mode: "shadow" }, IP]);
    const wouldDeny = [];
    for (const id of ["c", "d"]) {
      const [reply] = await world.batch([consume(id, OTHER_IP)]);
      wouldDeny.push([reply?.status, reply?.body.would_deny]);
    }
    expect(wouldDeny).toEqual([
      [200, false],
      [200, true],
    ]);
  });
});
