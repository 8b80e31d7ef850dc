import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { readConfig } from "../../src/config/config";
import { Limiter } from "../../src/limiter/limiter";
import { Ledger } from "../../src/object/ledger";
import type { Call, CallResult } from "../../src/object/protocol";
import type { ObjectNamespace } from "../../src/objects/binding";
import { realTiming } from "../../src/objects/deadline";
import { DenialCache } from "../../src/objects/denial-cache";
import { readConsume, readRelease, readSettle } from "../../src/request/read";
import { Disk } from "./disk";

const START_MS = 1_800_000_000_000;
const IP = "203.0.113.7";

/** The real edge over real ledgers, an object a key, at instants and with losses that a test names. */
class World {
  #atMs = 0;
  /** How far an object's clock is ahead. */
  aheadMs = (_object: string): number => 0;
  /** Whether a call is lost before it arrives. */
  isLost = (_object: string, _call: Call): boolean => false;
  /** What a call waits for on its way. */
  way = async (_object: string, _call: Call): Promise<void> => {};
  /** What becomes of its answer, which may be lost. */
  answered = async (_object: string, _call: Call): Promise<void> => {};
  readonly #ledgers = new Map<string, Ledger>();
  readonly #disks = new Map<string, Disk>();
  readonly #objects: ObjectNamespace = {
    getByName: (name) => {
      const decide = async (calls: readonly Call[]) => {
        const [call] = calls as [Call];
        if (this.isLost(name, call)) throw new Error("Network connection lost.");
        await this.way(name, call);
        const asked = JSON.parse(JSON.stringify(calls)) as Call[];
        const outcomes = JSON.parse(JSON.stringify(this.ledger(name).decide(asked, this.#nowOf(name)))) as CallResult[];
        await this.answered(name, call);
        return outcomes;
      };
      return { decide } as ReturnType<ObjectNamespace["getByName"]>;
    },
  };
  #limiter: Limiter;
  #config: ReturnType<typeof readConfig>;

  constructor(policies: object = {}) {
    this.#config = readConfig({ RATE_LIMIT_POLICIES: policies });
    this.#limiter = this.limiterOf(policies);
  }

  /** The edge under another configuration, over the same objects. */
  limiterOf(policies: object): Limiter {
    this.#config = readConfig({ RATE_LIMIT_POLICIES: policies });
    this.#limiter = new Limiter(this.#config, this.#objects, realTiming, new DenialCache(0, () => START_MS));
    return this.#limiter;
  }

  ledger(name: string): Ledger {
    const disk = this.#disks.get(name) ?? new Disk();
    this.#disks.set(name, disk);
    const ledger = this.#ledgers.get(name) ?? new Ledger(disk);
    this.#ledgers.set(name, ledger);
    return ledger;
  }

  /** All objects start anew. */
  reopen(): void {
    this.#ledgers.clear();
  }

  reset(key: string): void {
    this.ledger(key).forget(key);
  }

  at(seconds: number): this {
    this.#atMs = seconds * 1_000;
    return this;
  }

  #nowOf(object: string): number {
    return START_MS + this.#atMs + this.aheadMs(object);
  }

  async consume(policy: string, user: string | undefined, key?: string, more: object = {}, cost = 1): Promise<string> {
    const subject = { ...(user && { user }), ip: IP, ...more };
    const asked = readConsume({ policy, subject, cost }, { key }, this.#config);
    try {
      const { allowed, replayed } = await this.#limiter.consume(asked, () => {});
      return allowed ? (replayed ? "replayed" : "admitted") : "denied";
    } catch (error) {
      return (error as { kind: string }).kind;
    }
  }

  async change(op: "settle" | "release", policy: string, user: string, id: string, more: object = {}): Promise<string> {
    const request = { policy, subject: { user, ip: IP, ...more }, id };
    try {
      if (op === "settle") await this.#limiter.settle(readSettle({ ...request, cost: 0 }, this.#config));
      else await this.#limiter.release(readRelease(request, this.#config));
      return "done";
    } catch (error) {
      return (error as { kind: string }).kind;
    }
  }

  /** What is used of the first limit of a layer of a key. */
  used(policy: string, layer: string, key: string, windowMs: number, kind?: "concurrent"): number {
    const limits = [{ ...(kind && { kind }), max: 1_000, windowMs }];
    const question = { policy, cost: 1, counters: [{ layer, key, limits }] };
    const [result] = this.ledger(key).decide([{ method: "check", question }], this.#nowOf(key));
    if (!result || !("verdict" in result)) throw new Error("no answer");
    return result.verdict.standings[0]?.[0]?.used ?? Number.NaN;
  }
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const layers = (user: string[], ip: string[]) => ({
  layers: [
    { name: "user", by: ["user"], limits: user },
    { name: "ip", by: ["ip"], limits: ip },
  ],
});

// Calls that are lost are logged: that is what is wanted here.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

describe("a decision is known as a whole or not at all", () => {
  test("a charge that was denied elsewhere, and could not be put back, admits nobody later", async () => {
    const world = new World();
    for (let i = 0; i < 30; i++) await world.at(0).consume("chat", `u${i}`);
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.consume("chat", "u", "K")).toBe("denied");
    world.isLost = () => false;
    for (let i = 0; i < 5; i++) expect(await world.at(90).consume("chat", "u")).toBe("admitted");
    expect(await world.at(100).consume("chat", "u", "K")).toBe("denied");
    expect(world.used("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(5);
  });

  test("it counts from when it was admitted, not from an attempt that was told a denial", async () => {
    const world = new World({ p: layers(["2/minute"], ["2/minute"]) });
    for (const user of ["x", "y"]) await world.at(0).consume("p", user);
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.at(30).consume("p", "u", "K")).toBe("denied");
    world.isLost = () => false;
    expect(await world.at(89).consume("p", "u", "K")).toBe("replayed");
    expect(await world.at(90.001).consume("p", "u")).toBe("admitted");
    expect(await world.at(90.001).consume("p", "u")).toBe("denied");
    expect(await world.at(148.999).consume("p", "u")).toBe("denied");
  });

  test("an id that is charged anew after its window, and denied elsewhere, is no free replay", async () => {
    const world = new World({ p: layers(["5/minute", "60/hour"], ["1 per 2 hours"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    // Two hours are the longest window, so the user's object is made to forget.
    world.reset("user:u");
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.at(3_601).consume("p", "u", "K")).toBe("denied");
    world.isLost = () => false;
    expect(await world.at(3_605).consume("p", "u", "K")).toBe("denied");
  });

  test("the window's end is told by one clock: an id that its first object forgets is charged in every layer", async () => {
    const world = new World({ p: layers(["5/minute", "60/hour"], ["1/hour"]) });
    // The address's object decides 5 ms later.
    world.aheadMs = (object) => (object.startsWith("ip:") ? 5 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = () => 0;
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.at(3_600).consume("p", "u", "K")).toBe("denied");
    world.isLost = () => false;
    expect(await world.at(3_600.004).consume("p", "u", "K")).toBe("denied");
    // What could not be put back makes it known to the user's object, and it is charged in every layer all the same.
    expect(await world.at(3_600.005).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(1);
  });

  test("and one that its first object knows is a replay, also where another object's clock has passed its window", async () => {
    const world = new World({ p: layers(["1/minute"], ["1/minute"]) });
    world.aheadMs = (object) => (object.startsWith("ip:") ? 30_000 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = (object) => (object.startsWith("ip:") ? 60_000 : 0);
    expect(await world.at(59.999).consume("p", "u", "K")).toBe("replayed");
    expect(await world.at(60).consume("p", "u", "K")).toBe("admitted");
  });

  test("of two attempts at once, each the first at another object, one is no replay, and each object is charged once", async () => {
    const world = new World();
    let [calls, pass] = [0, () => {}];
    const both = new Promise<void>((resolve) => {
      pass = resolve;
    });
    // The first attempt reaches the user's object at once, the second the address's; then the two others arrive.
    world.way = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isFirst = [0, 3].includes(calls++);
      if (calls === 4) pass();
      if (!isFirst) await both;
      expect(object).toMatch(/^(user|ip):/);
    };
    const told = await Promise.all([world.at(0).consume("chat", "u", "K"), world.consume("chat", "u", "K")]);
    expect(told.toSorted()).toEqual(["admitted", "replayed"]);
    expect(world.used("chat", "caller", "user:u", HOUR_MS)).toBe(1);
    expect(world.used("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(1);
    expect(await world.at(3_599).consume("chat", "u", "K")).toBe("replayed");
    expect(world.used("chat", "caller", "user:u", HOUR_MS)).toBe(1);
  });

  test("what a reset has left of it admits nobody a second time", async () => {
    const world = new World({ p: layers(["1/minute"], ["5/minute"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.reset(`ip:${IP}`);
    expect(await world.at(20).consume("p", "u", "K")).toBe("denied");
    expect(world.used("p", "ip", `ip:${IP}`, MINUTE_MS)).toBe(0);
  });

  test("a second after its window nobody settles it, and it conflicts with nothing", async () => {
    const world = new World({ p: layers(["5/minute"], ["9/hour"]), q: layers(["5/minute"], ["9/hour"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(3_599).consume("q", "u", "K")).toBe("reused-id");
    expect(await world.at(3_601).change("settle", "p", "u", "K")).toBe("unknown-decision");
    expect(await world.at(3_601).consume("q", "u", "K")).toBe("admitted");
  });

  test("an override with a longer window makes no id known for longer", async () => {
    const world = new World();
    const key = `ip:${IP}`;
    const limits = [{ max: 2, windowMs: 24 * HOUR_MS }];
    world.ledger(key).setOverride(
      key,
      {
        kind: "limits",
        reason: "r",
        ends: { inMs: 30 * 24 * HOUR_MS },
        layers: [{ policy: "chat", layer: "ip", limits }],
      },
      START_MS,
    );
    const told: string[] = [];
    for (let hour = 0; hour < 12; hour++) told.push(await world.at(hour * 3_660).consume("chat", "u", "job"));
    expect(told).toEqual(["admitted", "admitted", ...Array(10).fill("denied")]);
    expect(await world.change("settle", "chat", "u", "job")).toBe("unknown-decision");
  });
});

describe("attempts that race", () => {
  test("when an id comes back after its window, one of all at once is no replay, and each object is charged once", async () => {
    const world = new World({ p: layers(["5/minute"], ["30/minute"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    const told = await Promise.all(Array.from({ length: 10 }, () => world.at(61).consume("p", "u", "K")));
    expect(told.toSorted()).toEqual(["admitted", ...Array(9).fill("replayed")]);
    expect(world.used("p", "user", "user:u", MINUTE_MS)).toBe(1);
    expect(world.used("p", "ip", `ip:${IP}`, MINUTE_MS)).toBe(1);
  });

  test("never take over what an earlier decision of the id has charged, however short its window", async () => {
    const world = new World({ p: layers(["9/second"], ["9/second"]) });
    const key = `ip:${IP}`;
    const other = [{ policy: "p", layer: "ip", limits: [{ max: 1, windowMs: HOUR_MS }] }];
    world
      .ledger(key)
      .setOverride(key, { kind: "limits", reason: "r", ends: { inMs: HOUR_MS }, layers: other }, START_MS);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    for (const seconds of [1.5, 3, 4.5]) {
      // The first attempt is rolled back only when the second has been answered.
      let [first, pass] = ["", () => {}];
      const second = new Promise<void>((resolve) => {
        pass = resolve;
      });
      world.way = async (_, call) => {
        if (call.method !== "consume" && call.method !== "rollBack") return;
        first ||= call.question.attempt;
        if (call.method === "rollBack" && call.question.attempt === first) await second;
      };
      const told = world.at(seconds).consume("p", "u", "K");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(await world.consume("p", "u", "K")).toBe("denied");
      pass();
      expect(await told).toBe("denied");
    }
  });

  test.each([
    ["by two policies", { policy: "p", cost: 1 }, { policy: "q", cost: 1 }],
    ["at two costs", { policy: "p", cost: 1 }, { policy: "p", cost: 2 }],
  ])("a refused one leaves no charge: %s, in one millisecond", async (_, one, other) => {
    const world = new World({ p: layers(["9/hour"], ["9/hour"]), q: layers(["9/hour"], ["9/hour"]) });
    let [arrived, pass] = [0, () => {}];
    const both = new Promise<void>((resolve) => {
      pass = resolve;
    });
    world.way = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isOne = call.question.policy === one.policy && call.question.cost === one.cost;
      if (isOne !== object.startsWith("ip:")) await both;
      else if (++arrived === 2) pass();
    };
    const told = await Promise.all([one, other].map(({ policy, cost }) => world.consume(policy, "u", "K", {}, cost)));
    expect(told.toSorted()).toEqual(["admitted", "reused-id"]);
    world.way = async () => {};
    const admitted = told[0] === "admitted" ? one : other;
    for (const [layer, key] of [
      ["user", "user:u"],
      ["ip", `ip:${IP}`],
    ] as const) {
      const used = ["p", "q"].reduce((sum, policy) => sum + world.used(policy, layer, key, HOUR_MS), 0);
      expect(used).toBe(admitted.cost);
    }
    expect(await world.change("settle", admitted.policy, "u", "K")).toBe("done");
    world.reopen();
    expect(world.used(admitted.policy, "ip", `ip:${IP}`, HOUR_MS)).toBe(0);
  });

  test("more of them than an event remembers, from both sides, are charged once", async () => {
    const world = new World({ p: layers(["9/hour"], ["9/hour"]) });
    world.way = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isLate = object.startsWith("ip:") === call.question.attempt < "i";
      if (isLate) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const told = await Promise.all(Array.from({ length: 100 }, () => world.at(0).consume("p", "u", "K")));
    expect(told.filter((one) => one === "admitted")).toHaveLength(1);
    expect(await world.at(10).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
  });

  test("a late rollback takes its own event back, also when another attempt has charged beside it", async () => {
    const world = new World({ p: layers(["9/hour"], ["1/minute"]) });
    expect(await world.at(0).consume("p", "x")).toBe("admitted");
    let pass = () => {};
    const late = new Promise<void>((resolve) => {
      pass = resolve;
    });
    world.way = async (_, { method }) => {
      if (method === "rollBack") await late;
    };
    const denied = world.at(0).consume("p", "u", "K");
    await new Promise((resolve) => setTimeout(resolve, 20));
    world.way = async () => {};
    expect(await world.at(61).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(2);
    pass();
    expect(await denied).toBe("denied");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
  });
});

test("what is charged anew takes its cost and a place, whatever was settled or released before", async () => {
  const world = new World({ p: layers(["1 concurrent per hour", "9/hour"], ["1 per 1 second", "1000/hour"]) });
  expect(await world.at(0).consume("p", "x")).toBe("admitted");
  world.isLost = (_, { method }) => method === "rollBack";
  expect(await world.at(0.5).consume("p", "u", "K")).toBe("denied");
  world.isLost = () => false;
  for (const op of ["release", "settle"] as const) expect(await world.at(0.6).change(op, "p", "u", "K")).toBe("done");
  expect(await world.at(1.2).consume("p", "u", "K")).toBe("replayed");
  expect(world.used("p", "user", "user:u", HOUR_MS, "concurrent")).toBe(1);
  expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
});

test("a replay is relied on in layers that are left, whatever becomes of an attempt that asked more of them", async () => {
  const both = { p: layers(["1/minute"], ["9/minute"]) };
  const world = new World(both);
  let pass = () => {};
  const late = new Promise<void>((resolve) => {
    pass = resolve;
  });
  world.isLost = (object) => object.startsWith("ip:");
  world.way = async (_, { method }) => {
    if (method === "rollBack") await late;
  };
  const first = world.at(0).consume("p", "u", "K");
  await new Promise((resolve) => setTimeout(resolve, 20));
  world.limiterOf({ p: { layers: both.p.layers.slice(0, 1) } });
  expect(await world.at(0.5).consume("p", "u", "K")).toBe("replayed");
  pass();
  expect(await first).toBe("unreachable");
  expect(await world.at(1).consume("p", "u", "K2")).toBe("denied");
});

test("a call of an attempt that was denied or rolled back charges nothing, however late it comes again", () => {
  const ledger = new Ledger(new Disk());
  const counters = [{ layer: "l", key: "k:1", limits: [{ max: 1, windowMs: MINUTE_MS }] }];
  const ask = (method: "consume" | "rollBack" | "settle", id: string, attempt: string, cost = 1) => {
    const question = { policy: "p", cost, counters, id, identity: "l=s", attempt, windowMs: MINUTE_MS };
    const [result] = ledger.decide([{ method, question } as Call], START_MS);
    if (!result || !("verdict" in result)) throw new Error(result?.error);
    return result.verdict.allowed;
  };
  expect(ask("consume", "A", "1")).toBe(true);
  expect(ask("consume", "K", "2")).toBe(false);
  ask("settle", "A", "1", 0);
  expect(ask("consume", "K", "2")).toBe(false);
  expect(ask("consume", "K", "3")).toBe(true);
  ask("rollBack", "K", "3");
  expect(ask("consume", "K", "3")).toBe(false);
  expect(ask("consume", "K", "4")).toBe(true);
});

test("a denial whose answer was lost is decided afresh when there is room by then", async () => {
  const world = new World({ p: { layers: [{ name: "user", by: ["user"], limits: ["1/minute"] }] } });
  expect(await world.at(0).consume("p", "u", "A")).toBe("admitted");
  let isFirst = true;
  world.answered = async (_, { method }) => {
    if (method !== "consume" || !isFirst) return;
    isFirst = false;
    await world.change("settle", "p", "u", "A");
    throw Object.assign(new Error("Network connection lost."), { retryable: true });
  };
  expect(await world.consume("p", "u", "K")).toBe("admitted");
});

describe("an id outlives a change of which layers decide", () => {
  const caller = { name: "caller", by: ["user"], limits: ["2 concurrent per hour", "9/hour"] };
  const ip = { name: "ip", by: ["ip"], limits: ["2 concurrent per hour", "9/hour"] };
  const org = { name: "org", by: ["org"], limits: ["2 concurrent per hour", "9/hour"] };
  const shadow = (layer: object) => ({ ...layer, mode: "shadow" });
  const subject = { org: "o" };

  test.each([
    ["a layer is put live", [caller, shadow(ip)], [caller, ip]],
    ["the first layer is put live", [shadow(caller), ip], [caller, ip]],
    ["a layer is put in shadow", [caller, ip], [caller, shadow(ip)]],
    ["the first layer is put in shadow", [caller, ip], [shadow(caller), ip]],
    ["a layer is added", [caller, ip], [caller, ip, org]],
    ["a layer is added before the others", [caller, ip], [org, caller, ip]],
    ["a layer is taken away", [caller, ip, org], [caller, ip]],
    ["the first layer is taken away", [org, caller, ip], [caller, ip]],
    ["all layers are put live", [shadow(caller), shadow(ip)], [caller, ip]],
  ])(
    "%s: sent again it is a replay and is charged nowhere, and it can be settled and released",
    async (_, before, after) => {
      const world = new World({ p: { layers: before } });
      expect(await world.at(0).consume("p", "u", "K", subject)).toBe("admitted");
      const old = { p: { layers: before } };
      const next = { p: { layers: after } };
      const keys = { caller: "user:u", ip: `ip:${IP}`, org: "org:o" };
      const usedIn = (kind?: "concurrent") =>
        Object.entries(keys).map(([layer, key]) => world.used("p", layer, key, HOUR_MS, kind));
      const used = usedIn();
      // Old and new code run side by side.
      for (const policies of [next, old, next]) {
        world.limiterOf(policies);
        expect(await world.at(10).consume("p", "u", "K", subject)).toBe("replayed");
        expect(usedIn()).toEqual(used);
      }
      expect(await world.change("release", "p", "u", "K", subject)).toBe("done");
      // What no layer counts by any more is out of reach.
      const left = before.length > after.length ? 1 : 0;
      expect(usedIn("concurrent")).toEqual([0, 0, left]);
      expect(await world.change("settle", "p", "u", "K", subject)).toBe("done");
      expect(usedIn()).toEqual([0, 0, left]);
      expect(await world.consume("p", "another", "K", { org: "another", ip: "198.51.100.1" })).toBe("admitted");
    },
  );

  test.each([
    ["by the new configuration, and asked about by the old one", [caller, ip, org], [caller, ip]],
    ["by the old configuration, and asked about by the new one", [caller, ip], [caller, ip, org]],
  ])("admitted %s, on a key with pages of ids", async (_, first, then) => {
    const world = new World({ p: { layers: first.map((layer) => ({ ...layer, limits: ["900/hour"] })) } });
    for (let i = 0; i < 100; i++) expect(await world.at(i).consume("p", "u", `K${i}`, subject)).toBe("admitted");
    world.limiterOf({ p: { layers: then.map((layer) => ({ ...layer, limits: ["900/hour"] })) } });
    for (let i = 0; i < 100; i++) expect(await world.at(200).consume("p", "u", `K${i}`, subject)).toBe("replayed");
    expect(world.used("p", "caller", "user:u", HOUR_MS)).toBe(100);
  });
});

describe("layers in shadow", () => {
  const policy = (user: string[], ip: string[]) => ({
    p: {
      layers: [
        { name: "user", by: ["user"], limits: user },
        { name: "ip", by: ["ip"], limits: ip, mode: "shadow" },
      ],
    },
  });

  test("are reached by a settle and a release whose id they alone still remember", async () => {
    const world = new World(policy(["5/minute"], ["2 concurrent per hour", "5/hour"]));
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(61).change("release", "p", "u", "K")).toBe("done");
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS, "concurrent")).toBe(0);
    expect(await world.change("settle", "p", "u", "K")).toBe("done");
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(0);
    expect(await world.at(3_600).change("settle", "p", "u", "K")).toBe("unknown-decision");
  });

  test("count what the live layers admit anew, and not what is a replay to them", async () => {
    const world = new World(policy(["5/minute"], ["9/hour"]));
    const told: string[] = [];
    for (const seconds of [0, 59, 60, 119]) told.push(await world.at(seconds).consume("p", "u", "K"));
    expect(told).toEqual(["admitted", "replayed", "admitted", "replayed"]);
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(2);
  });
});

test("a limit on what is concurrent that is declared later counts no decision that was released before", async () => {
  const layer = { name: "user", by: ["user"], limits: ["9/hour"] };
  const world = new World({ p: { layers: [layer] } });
  for (const id of ["A", "B", "C"]) expect(await world.at(0).consume("p", "u", id)).toBe("admitted");
  for (const id of ["A", "B"]) expect(await world.change("release", "p", "u", id)).toBe("done");
  world.limiterOf({ p: { layers: [{ ...layer, limits: ["9/hour", "2 concurrent per hour"] }] } });
  expect(await world.consume("p", "u")).toBe("admitted");
  expect(await world.consume("p", "u")).toBe("denied");
});
