import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { ASSUMED, cloudflareMonth, kindsOf, redisMonth, shardsNeeded, typicalUsage } from "../scripts/scale/bill";
import { countingMonth } from "../scripts/scale/counting";
import { decisionOver, placementsTable } from "../scripts/scale/placements";
import { rowsADecision } from "../scripts/scale/rows";
import { documentTables } from "../scripts/scale/tables";
import { millionItems } from "../scripts/scale/ways";
import { simulate } from "../scripts/scale/world";
import { millionBy } from "../scripts/scale/world-tables";
import { CallQueue } from "../src/objects/call-queue";

const MILLION = 1_000_000;
const BILLION = 1_000_000_000;
const visiting = kindsOf(10)["admitted, signed in"];

test("docs/scale.md has the tables that the script prints", { timeout: 60_000 }, async () => {
  const document = readFileSync(join(import.meta.dirname, "../docs/scale.md"), "utf8");
  const tables = document.match(/^\|.*\|$(\n^\|.*\|$)*/gm);
  expect(tables).toEqual(await documentTables());
});

test("docs/operations.md has the table of placements, and wrangler.toml the last of them", () => {
  const read = (path: string) => readFileSync(join(import.meta.dirname, "..", path), "utf8");
  const printed = placementsTable();
  expect(read("docs/operations.md")).toContain(`\n\n${printed}\n\n`);
  const [, recommended] = /^LIMITER_PLACEMENT = "(.*)"$/m.exec(read("wrangler.toml")) ?? [];
  expect(printed.split("\n").at(-1)).toContain(`| \`${recommended}\` |`);
});

test("decisions over placements call the objects that they are counted by hand to call", () => {
  expect(decisionOver("key")).toEqual({ calls: 2, objects: 40_000, busiest: 1 / 20_000 });
  expect(decisionOver("shards:1")).toEqual({ calls: 1, objects: 1, busiest: 1 });
  // Two keys share one of four shards once in four times, and 1 - (3/4)^2 of decisions call a shard.
  const shared = decisionOver("shards:4");
  expect([shared.calls, shared.objects]).toEqual([expect.closeTo(1.75, 1), 4]);
  expect(shared.busiest).toBeCloseTo(7 / 16, 1);
  const apart = decisionOver("ip=shards:8,user=shards:4,key");
  expect([apart.calls, apart.objects]).toEqual([2, 12]);
  expect(apart.busiest).toBeCloseTo(1 / 4, 1);
});

test("a bill of signed-in admissions equals the bill by hand, without the included amounts", () => {
  const steady = kindsOf(Number.POSITIVE_INFINITY)["admitted, signed in"];
  // Requests (30 - 10) x 0.30, calls (60 - 1) x 0.15, rows (60 - 50) x 1.00, the plan; all else is included.
  expect(cloudflareMonth(steady, MILLION).usd).toBeCloseTo(6 + 8.85 + 10 + 5, 6);
  // 60,000 million calls of 15 ms and 128 MB; requests, CPU, calls, rows read and written.
  const billion = 114.8 * 12.5 + 29_990 * 0.3 + 29_970 * 0.02 + 59_999 * 0.15 + 95_000 * 0.001 + 59_950 + 5;
  expect(cloudflareMonth(steady, BILLION).usd).toBeCloseTo(billion, 4);
  // Six million keys that come and go: 12 million calls and 30 million rows more.
  expect(cloudflareMonth(visiting, MILLION).usd).toBeCloseTo(6 + 71 * 0.15 + 40 + 5, 6);
  // 90 million logs of 4.84 KB: (435.6 - 50) GB taken in, (435.6 x 7/30 - 12) GB-months kept.
  const logs = cloudflareMonth(steady, MILLION, 1).usd - cloudflareMonth(steady, MILLION).usd;
  expect(logs).toBeCloseTo(385.6 * 0.25 + 89.64 * 0.1, 6);
});

test("a bill of counting equals the bill by hand", () => {
  const { items, usd, analytics } = countingMonth({ isolates: 100, hubs: 2 });
  // 25.92 million sums, 4 x 324,000 alarms that write, 4 x 86,400 scrapes that have rows written, 2 x 324,000 alarms of hubs.
  const calls = 25.92 + 1.296 + 0.3456 + 2 * 0.648;
  const rows = 1.296 * 4 + 0.3456 * 3 + 0.648;
  const writing = 1.296 + 0.3456 + 0.648;
  const gbS = (writing * 0.015 + (calls - writing) * 0.002) * 0.128;
  expect(items.map(({ million }) => million)).toEqual([calls, rows, gbS].map((count) => expect.closeTo(count, 6)));
  expect(usd).toBeCloseTo(calls * 0.15 + rows + gbS * 12.5, 6);
  expect(analytics.usd).toBeCloseTo((25.92 + 1.296) * 8 * 0.25, 6);
});

test("a bill of a Redis equals the bill by hand", () => {
  const small = redisMonth(visiting, MILLION);
  // 13 commands; 30 GB of traffic and 50 MB of data are free.
  expect(small.asYouGo).toBeCloseTo(30 * 13 * 2 + 200, 6);
  expect(small.fixed).toMatchObject({ count: 1, usd: 210 });
  expect(small.valkey).toMatchObject({ nodes: 2, usd: expect.closeTo(2 * 720 * 0.1752 + 15 * 0.2, 6) });
  const large = redisMonth(visiting, BILLION);
  // 451,389 commands/s want 46 databases, but 30,000 GB want 60 of 500 GB: cheaper than 46 of 1,000 GB.
  expect(large.fixed).toMatchObject({ name: "5 GB", count: 60, usd: 18_000 });
  // 34,722 decisions in the busiest second, 5,000 a shard.
  expect(large.valkey.nodes).toBe(14);
});

test("an average decision, and the shards that such decisions need, equal the figures by hand", () => {
  const { calls, rowsWritten, visits } = typicalUsage();
  expect(calls).toBeCloseTo(0.45 * 2 + 0.45 + 0.05 * 3 + 0.05, 9);
  expect(rowsWritten).toBeCloseTo(0.45 * 2 + 0.45 + 0.05 * 2, 9);
  expect(visits).toBeCloseTo((0.45 * 2 + 0.45 + 0.05) / 10, 9);
  // 300 decisions in the busiest second are 300 calls of one object, and 382.5 of two.
  expect(shardsNeeded(8_640_000, 300)).toBe(1);
  expect(shardsNeeded(8_640_000, 299)).toBe(2);
});

test("a simulated hub asks by the real call queue and has one call in flight to an object; HTTP has many", async () => {
  const asked = vi.spyOn(CallQueue.prototype, "ask");
  const overSessions = await simulate({ perSecond: 1_000, hubs: 4, objects: 2 });
  const throughQueues = asked.mock.calls.length;
  const overHttp = await simulate({ perSecond: 400, hubs: 0, objects: 1 });
  expect(asked.mock.calls.length).toBe(throughQueues);
  asked.mockRestore();
  expect(throughQueues).toBe(overSessions.asked);
  expect(overSessions.mostInFlight).toBe(1);
  expect(overHttp.mostInFlight).toBeGreaterThan(1);
});

test("a simulated decision takes from one to two trips of its hub, and its call waits for no more than the commit", async () => {
  const { world, latency } = ASSUMED;
  const farthestMs = (1 + world.jitter) * world.roundTripMs.apac + world.callMs + latency.commit;
  const { p50Ms, p99Ms, decided, refused } = await simulate({ perSecond: 100, hubs: 1, objects: 1 });
  expect([decided > 0, refused]).toEqual([true, 0]);
  expect(p50Ms).toBeLessThan(farthestMs);
  expect(p99Ms).toBeGreaterThan(farthestMs);
  // The call in flight, its own, and a few milliseconds of the decisions before it.
  expect(p99Ms).toBeLessThan(2 * farthestMs + 10);
});

test("a simulated object takes at most 500 calls a second, so with a call for each decision it refuses the rest", async () => {
  const { seconds, calls, decided, refused } = await simulate({ perSecond: 1_000, hubs: 0, objects: 1 });
  expect(calls / seconds).toBeGreaterThan(450);
  expect(calls / seconds).toBeLessThanOrEqual(500);
  expect(decided / seconds).toBeLessThanOrEqual(500);
  expect((decided + refused) / seconds).toBeCloseTo(1_000, -2);
});

test("hubs that are asked for more than an object decides let it decide most of what it can, some seconds later", async () => {
  // A tenth of the assumed speed, so that the simulation has fewer decisions.
  const decisionMs = 10 * ASSUMED.world.decisionMs;
  const most = 1_000 / decisionMs;
  for (const hubs of [1, 4]) {
    const load = { perSecond: 2 * most, hubs, objects: 1, decisionMs, warmUpMs: 7_000 };
    const { decided, seconds } = await simulate(load);
    expect(decided / seconds / most).toBeGreaterThan(0.5);
  }
});

test("a load has the same outcome each time", async () => {
  const load = { perSecond: 500, hubs: 1, objects: 4 };
  expect(await simulate(load)).toEqual(await simulate(load));
});

test("rows follow from the turns: one a turn, and one for each page once the journal's ring has turned", () => {
  const keys = { everyMs: 60_000, objects: 1 };
  expect(rowsADecision([1], { ...keys, count: 1 })).toBe(1);
  // Most keys come back after the ring has turned: a row of their own beside their share of the turn's row.
  expect(rowsADecision([40], { ...keys, count: 1_000_000 })).toBeCloseTo(1 + 1 / 40, 1);
  // Keys that come back far sooner share nearly everything.
  expect(rowsADecision([40], { ...keys, count: 2_000 })).toBeLessThan(0.2);
});

test("the items of a million by each way equal the bill by hand, and a session saves the requests", () => {
  const http = millionItems({ transport: "HTTP" });
  // Two keys of ten decisions: five rows, and two alarms that take 15 ms and read two rows.
  const firstTouch = 0.2 * (5 + 2 * 0.15 + 2 * 0.015 * 0.128 * 12.5 + 2 * 2 * 0.001);
  const near = { calls: 2 * 0.15, rows: 2 + 4 * 0.001, objects: 2 * 0.015 * 0.128 * 12.5 };
  const expected = { coming: 0.32, ...near, firstTouch, hubs: 0 };
  for (const [item, usd] of Object.entries(expected))
    expect([item, http]).toEqual([item, expect.objectContaining({ [item]: expect.closeTo(usd, 6) })]);
  // A twentieth of a request, and 22 ms of a hub.
  const session = millionItems({ transport: "session" });
  expect(session).toEqual({
    ...http,
    coming: expect.closeTo(0.15 / 20, 6),
    hubs: expect.closeTo(0.022 * 0.128 * 12.5, 6),
  });
  // A key of a shard costs the row that deletes it. A quarter of the users are in the shard of their address.
  const shards = millionItems({ transport: "HTTP", shards: 4 });
  expect([shards.firstTouch, shards.calls]).toEqual([expect.closeTo(0.2, 6), expect.closeTo(1.75 * 0.15, 6)]);
});

test("a million decisions by HTTP and by session equal the bill by hand", () => {
  const each = { calls: 0.5, rows: 0.25, activeMs: 10 };
  // Calls 0.15, active 0.01 x 0.128 GB-s x 12.50, rows read 0.001, rows written 1.00.
  const objects = 0.5 * 0.15 + 0.00128 * 12.5 + 0.001 * 1 + 0.25;
  expect(millionBy("http", each)).toBeCloseTo(objects + 0.3 + 0.02, 6);
  expect(millionBy("session", each)).toBeCloseTo(objects + 0.15 / 20, 6);
});
