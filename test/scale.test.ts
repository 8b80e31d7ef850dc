import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  cloudflareBill,
  cloudflareMillion,
  itemsOf,
  upstashFixed,
  upstashPayAsYouGo,
  valkeyCluster,
} from "../scripts/scale/bill";
import { callsAtAddress, decisionsPerDayUntilFull, shardsNeeded } from "../scripts/scale/capacity";
import { readTraffic, UsageError } from "../scripts/scale/options";
import { CLOUDFLARE, costOf } from "../scripts/scale/prices";
import { documented, ownTables } from "../scripts/scale/tables";
import { TYPICAL } from "../scripts/scale/traffic";
import {
  admittedAnonymous,
  admittedSignedIn,
  batchOfManyUsers,
  batchOfOneUser,
  checked,
  deniedByAll,
  deniedByOne,
  flooded,
  usageOf,
} from "../scripts/scale/usage";

const MILLION = 1_000_000;
const BILLION = 1_000_000_000;
/** Of keys that are never idle. */
const STEADY = Number.POSITIVE_INFINITY;
const load = (decisionsPerDay: number, logged = 0) => ({ decisionsPerDay, peak: 3, logged });

describe("a bill of Cloudflare", () => {
  test("is for what goes beyond the included units, and never below nothing", () => {
    expect(costOf(CLOUDFLARE.rowsWritten, 50 * MILLION)).toBe(0);
    expect(costOf(CLOUDFLARE.rowsWritten, 49 * MILLION)).toBe(0);
    expect(costOf(CLOUDFLARE.rowsWritten, 52 * MILLION)).toBe(2);
    expect(cloudflareBill(deniedByAll(1), load(1))).toBe(5);
  });

  test("of a million signed-in admissions a day, by hand", () => {
    // Requests (30 - 10) x 0.30, calls (60 - 1) x 0.15, rows (60 - 50) x 1.00, the plan; all else is included.
    expect(cloudflareBill(admittedSignedIn(STEADY), load(MILLION))).toBeCloseTo(6 + 8.85 + 10 + 5, 6);
  });

  test("of a billion signed-in admissions a day, by hand", () => {
    const requests = 29_990 * 0.3;
    const cpu = 29_970 * 0.02;
    const calls = 59_999 * 0.15;
    // 60,000 million calls of 15 ms and 128 MB.
    const duration = (115.2 - 0.4) * 12.5;
    const rowsRead = 95_000 * 0.001;
    const rowsWritten = 59_950;
    const bill = requests + cpu + calls + duration + rowsRead + rowsWritten + 5;
    expect(cloudflareBill(admittedSignedIn(STEADY), load(BILLION))).toBeCloseTo(bill, 4);
  });

  test("has five rows and two calls more for each key that comes and goes", () => {
    // Six million visits: 12 million calls and 30 million rows more.
    expect(cloudflareBill(admittedSignedIn(10), load(MILLION))).toBeCloseTo(6 + 71 * 0.15 + 40 + 5, 6);
  });

  test("has the storage of keys until they are forgotten", () => {
    const items = itemsOf(admittedAnonymous(1), 30 * BILLION, { logged: 0 });
    const stored = items.find(({ price }) => price === CLOUDFLARE.storedGbMonths);
    // Thirty billion visits of 16 KB for 2 of 720 hours.
    expect(stored?.units).toBeCloseTo((30_000 * 16 * 2) / 720, 6);
    expect(costOf(CLOUDFLARE.storedGbMonths, 1_005)).toBeCloseTo(200, 9);
  });

  test("has a log of each request and each call, unless they are sampled away", () => {
    const usage = admittedSignedIn(STEADY);
    const logs = (logged: number) =>
      cloudflareBill(usage, load(MILLION, logged)) - cloudflareBill(usage, load(MILLION, 0));
    // 90 million of 2 KB: (180 - 50) GB taken in, (180 x 7/30 - 12) GB-months kept.
    expect(logs(1)).toBeCloseTo(130 * 0.25 + 30 * 0.1, 6);
    expect(logs(0.01)).toBe(0);
  });

  test("of a million decisions more has nothing included", () => {
    // A request, a ms of CPU, two calls, two rows, 3,840 GB-s, four rows read.
    const million = 0.3 + 0.02 + 0.3 + 2 + 0.048 + 0.004;
    expect(cloudflareMillion(admittedSignedIn(STEADY), { logged: 0 })).toBeCloseTo(million, 9);
  });
});

describe("what a decision uses", () => {
  test("is two calls and two rows signed in, one and one anonymous, and no row for a check", () => {
    expect(admittedSignedIn(STEADY)).toMatchObject({ requests: 1, calls: 2, rowsWritten: 2 });
    expect(admittedAnonymous(STEADY)).toMatchObject({ requests: 1, calls: 1, rowsWritten: 1 });
    expect(checked(2)).toMatchObject({ requests: 1, calls: 2, rowsWritten: 0, visits: 0 });
  });

  test("is three calls and two rows when one of two objects denies", () => {
    expect(deniedByOne(STEADY)).toMatchObject({ requests: 1, calls: 3, rowsWritten: 2 });
  });

  test("is one call where all keys share one object, and a denial there writes nothing", () => {
    expect(admittedSignedIn(STEADY, { shards: 1 })).toMatchObject({ calls: 1, rowsWritten: 2 });
    expect(deniedByOne(STEADY, { shards: 1 })).toMatchObject({ calls: 1, rowsWritten: 0 });
    expect(deniedByOne(STEADY, { shards: 4 })).toMatchObject({ calls: 2.5, rowsWritten: 1.5 });
  });

  test("is next to nothing in a flood, and never more than a denial that is asked for", () => {
    expect(flooded(STEADY)).toMatchObject({ requests: 1, calls: 0.03, rowsWritten: 0.02 });
    expect(flooded(10, { perSecond: 5, isolates: 10, denyCacheMs: 1_000 })).toEqual(deniedByOne(10));
    expect(flooded(10, { perSecond: 100, isolates: 10, denyCacheMs: 2_000 }).calls).toBeCloseTo(0.15, 9);
  });

  test("is shared in a batch as far as its keys are", () => {
    expect(batchOfOneUser(1, 10)).toEqual(admittedSignedIn(10));
    expect(batchOfManyUsers(1, 10)).toEqual(admittedSignedIn(10));
    expect(batchOfOneUser(32, 10)).toMatchObject({ requests: 1 / 32, calls: 2 / 32, visits: 2 / 32 });
    expect(batchOfOneUser(26, 10).rowsWritten).toBeCloseTo((2 * 2) / 26, 9);
    expect(batchOfManyUsers(32, STEADY)).toMatchObject({ requests: 1 / 32, calls: 2, rowsWritten: 2 });
  });

  test("is an average over the traffic", () => {
    const { calls, rowsWritten, visits } = usageOf(TYPICAL);
    expect(calls).toBeCloseTo(0.45 * 2 + 0.45 + 0.05 * 3 + 0.05, 9);
    expect(rowsWritten).toBeCloseTo(0.45 * 2 + 0.45 + 0.05 * 2, 9);
    expect(visits).toBeCloseTo((0.45 * 2 + 0.45 + 0.05) / 10, 9);
    expect(usageOf({ ...TYPICAL, signedIn: 1, admitted: 1 })).toEqual(admittedSignedIn(10));
    expect(usageOf({ ...TYPICAL, admitted: 0, atEdge: 1 })).toMatchObject({ requests: 1, calls: 0, rowsWritten: 0 });
    expect(usageOf({ ...TYPICAL, checks: 1 })).toMatchObject({ requests: 1, calls: 1.5, rowsWritten: 0 });
  });
});

describe("a Redis in its place", () => {
  const usage = admittedSignedIn(10);

  test("costs by the command on Upstash, and its replicas", () => {
    // 13 commands; 30 GB of traffic and 50 MB of data are free.
    expect(upstashPayAsYouGo(usage, load(MILLION))).toBeCloseTo(30 * 13 * 2 + 200, 6);
  });

  test("takes as many fixed databases as data, traffic and the busiest second need", () => {
    expect(upstashFixed(usage, load(MILLION))).toMatchObject({ count: 1, usd: 210 });
    // 451,389 commands/s want 46 databases, but 30,000 GB want 60 of 500 GB: cheaper than 46 of 1,000 GB.
    expect(upstashFixed(usage, load(BILLION))).toMatchObject({ plan: { name: "5 GB" }, count: 60, usd: 18_000 });
  });

  test("takes a primary and a replica on ElastiCache, and more for more decisions", () => {
    const nodes = 2 * 720 * 0.1752;
    const small = valkeyCluster(usage, load(MILLION));
    expect(small.shards).toBe(1);
    expect(small.usd).toBeCloseTo(nodes + 15 * 0.2, 6);
    // 34,722 decisions in the busiest second, 5,000 a shard.
    const large = valkeyCluster(usage, load(BILLION));
    expect(large.shards).toBe(7);
    expect(large.usd).toBeCloseTo(7 * nodes + 15_000 * 0.2, 4);
  });
});

describe("the first object to be full", () => {
  test("is an address, which a user's denial calls twice", () => {
    expect(callsAtAddress({ ...TYPICAL, signedIn: 1, admitted: 1 })).toBe(1);
    expect(callsAtAddress({ ...TYPICAL, signedIn: 1, admitted: 0 })).toBe(2);
    expect(callsAtAddress({ ...TYPICAL, signedIn: 1, admitted: 0, atEdge: 1 })).toBe(0);
    expect(callsAtAddress(TYPICAL)).toBeCloseTo(1.05, 9);
    // 86.4 million a day are 1,000/s; a tenth of them, twice as many in the busiest second, are 200/s.
    const traffic = { ...TYPICAL, admitted: 1, hottest: 0.1, peak: 2 };
    expect(decisionsPerDayUntilFull(traffic, 200)).toBeCloseTo(86_400_000, 3);
  });

  test("is put off by as many shards as the calls need", () => {
    const anonymous = { ...TYPICAL, signedIn: 0, peak: 1 };
    expect(shardsNeeded({ ...anonymous, decisionsPerDay: 86_400_000 }, 200)).toBe(5);
    expect(shardsNeeded({ ...anonymous, decisionsPerDay: 86_400_001 }, 200)).toBe(6);
    expect(shardsNeeded({ ...anonymous, decisionsPerDay: 1 }, 200)).toBe(1);
    // Over three shards, 500 decisions/s about two keys each are 833 calls: 278 a shard; over two they are 375.
    const signedIn = { ...anonymous, signedIn: 1, admitted: 1, decisionsPerDay: 43_200_000 };
    expect(shardsNeeded(signedIn, 300)).toBe(3);
  });
});

describe("the options", () => {
  test("describe a traffic, and leave the rest typical", () => {
    expect(readTraffic([])).toBeUndefined();
    expect(readTraffic(["--decisions-per-day", "2e6", "--signed-in=0.25", "--shards", "16"])).toEqual({
      ...TYPICAL,
      decisionsPerDay: 2_000_000,
      signedIn: 0.25,
      shards: 16,
    });
  });

  test.each([
    [["--admitted", "1.5"], '--admitted is a number from 0 to 1, not "1.5"'],
    [["--admitted", ""], '--admitted is a number from 0 to 1, not ""'],
    [["--decisions-per-day", "many"], '--decisions-per-day is a number from 1 to 1000000000000, not "many"'],
    [["--decisions-per-day", "0"], '--decisions-per-day is a number from 1 to 1000000000000, not "0"'],
    [["--shards", "2.5"], '--shards is a whole number from 1 to 9999, not "2.5"'],
    [["--admited", "1"], "--admited"],
    [["1000000"], "1000000"],
    [["--peak"], "--peak"],
  ])("%j are refused, and why", (args, why) => {
    expect(() => readTraffic(args)).toThrow(UsageError);
    expect(() => readTraffic(args)).toThrow(why);
  });

  test("give a bill and a capacity whose numbers are numbers, at every bound", () => {
    const bounds = [
      ["--decisions-per-day", "1"],
      ["--decisions-per-day", "1e12", "--peak", "86400"],
      ["--admitted", "0", "--denied-at-edge", "1"],
      ["--checks", "1", "--signed-in", "0"],
      ["--shards", "1", "--hottest-address", "1", "--logged", "0"],
    ];
    for (const args of bounds) {
      const traffic = readTraffic(args);
      if (!traffic) throw new Error("a traffic");
      expect(ownTables(traffic).join("\n")).not.toMatch(/NaN|undefined|-\d/);
    }
  });
});

test("the tables of docs/scale.md are those that the script prints", () => {
  const document = readFileSync(join(import.meta.dirname, "../docs/scale.md"), "utf8");
  const tables = document.match(/^\|.*\|$(\n^\|.*\|$)*/gm);
  expect(tables).toEqual(documented());
});
