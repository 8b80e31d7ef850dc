import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { readConfig } from "../../src/config/config";
import { type Cost, costIn } from "../../src/core/cost";
import { Limiter } from "../../src/limiter/limiter";
import { Ledger } from "../../src/object/ledger";
import type { Call, CallResult } from "../../src/object/protocol";
import type { DecidingStub, ObjectNamespace } from "../../src/objects/binding";
import { DenialCache } from "../../src/objects/denial-cache";
import { realTiming } from "../../src/objects/timing";
import { readConsume, readRelease, readSettle } from "../../src/request/read";
import { Disk } from "./disk";
import { connectionLost, Ledgers } from "./ledgers";

const START_MS = 1_800_000_000_000;
const IP = "203.0.113.7";

/** Single requests to the real limiter over real ledgers, an object a key. A test sets the time, and what happens to calls. */
class World {
  #atMs = 0;
  /** How far an object's clock is ahead. */
  aheadMs = (_object: string): number => 0;
  /** Is this call lost before it arrives? */
  isLost = (_object: string, _call: Call): boolean => false;
  /** A call arrives once this resolves. */
  beforeArrival = async (_object: string, _call: Call): Promise<void> => {};
  /** A call is answered once this resolves. Its answer is lost if this throws. */
  beforeAnswer = async (_object: string, _call: Call): Promise<void> => {};
  readonly #ledgers = new Ledgers();
  readonly #objects: ObjectNamespace<DecidingStub> = {
    getByName: (object) => ({ decide: (calls) => this.#decide(object, calls) }),
  };
  #limiter: Limiter;
  #config: ReturnType<typeof readConfig>;

  constructor(policies: object = {}) {
    this.#config = readConfig({ RATE_LIMIT_POLICIES: policies });
    this.#limiter = this.deploy(policies);
  }

  /** Replaces the configuration. The objects stay. */
  deploy(policies: object): Limiter {
    this.#config = readConfig({ RATE_LIMIT_POLICIES: policies });
    this.#limiter = new Limiter(this.#config, this.#objects, realTiming, new DenialCache(0, () => START_MS));
    return this.#limiter;
  }

  ledger(object: string): Ledger {
    return this.#ledgers.of(object);
  }

  evict(): void {
    this.#ledgers.evict();
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

  async #decide(object: string, calls: readonly Call[]): Promise<CallResult[]> {
    const [call] = calls as [Call];
    if (this.isLost(object, call)) throw new Error("Network connection lost.");
    await this.beforeArrival(object, call);
    const results = this.#ledgers.decide(object, calls, this.#nowOf(object));
    await this.beforeAnswer(object, call);
    return results;
  }

  async consume(
    policy: string,
    user: string | undefined,
    key?: string,
    more: object = {},
    cost: Cost = 1,
  ): Promise<string> {
    const subject = { ...(user && { user }), ip: IP, ...more };
    const request = readConsume({ policy, subject, cost }, { key }, this.#config);
    try {
      const { allowed, replayed } = await this.#limiter.consume(request, () => {});
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

  /** How much of a window of a layer and key is used. */
  used(policy: string, layer: string, key: string, windowMs: number, kind?: "concurrent"): number {
    const limits = [{ ...(kind && { kind }), max: 1_000, windowMs }];
    const question = { policy, cost: 1, counters: [{ layer, key, limits }] };
    const [result] = this.ledger(key).decide([{ method: "check", question }], this.#nowOf(key));
    if (!result || !("verdict" in result)) throw new Error("no verdict");
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

// The limiter logs every lost call, and many are lost here on purpose.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

describe("a decision is known as a whole or not at all", () => {
  test("a charge that was denied elsewhere and could not be rolled back admits nobody later", async () => {
    const world = new World();
    for (let i = 0; i < 30; i++) await world.at(0).consume("chat", `u${i}`);
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.consume("chat", "u", "K")).toBe("denied");
    world.isLost = () => false;
    for (let i = 0; i < 5; i++) expect(await world.at(90).consume("chat", "u")).toBe("admitted");
    expect(await world.at(100).consume("chat", "u", "K")).toBe("denied");
    expect(world.used("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(5);
  });

  test("a decision counts from its admission, not from an attempt that was denied", async () => {
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

  test("an id that is charged again after its window and denied elsewhere is no free replay", async () => {
    const world = new World({ p: layers(["5/minute", "60/hour"], ["1 per 2 hours"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    // The user's object forgets the id: it would know it for 2 hours, the longest window of the policy.
    world.reset("user:u");
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.at(3_601).consume("p", "u", "K")).toBe("denied");
    world.isLost = () => false;
    expect(await world.at(3_605).consume("p", "u", "K")).toBe("denied");
  });

  test("one clock ends the window: an id that the first object forgets is charged in every layer", async () => {
    const world = new World({ p: layers(["5/minute", "60/hour"], ["1/hour"]) });
    // The clock of the address's object is 5 ms ahead.
    world.aheadMs = (object) => (object.startsWith("ip:") ? 5 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = () => 0;
    world.isLost = (_, { method }) => method === "rollBack";
    expect(await world.at(3_600).consume("p", "u", "K")).toBe("denied");
    world.isLost = () => false;
    expect(await world.at(3_600.004).consume("p", "u", "K")).toBe("denied");
    // The charge that was not rolled back makes the id known to the user's object. It is charged in every layer anyway.
    expect(await world.at(3_600.005).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(1);
  });

  test("an id that the first object knows is a replay, even if another object's clock has passed its window", async () => {
    const world = new World({ p: layers(["1/minute"], ["1/minute"]) });
    world.aheadMs = (object) => (object.startsWith("ip:") ? 30_000 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = (object) => (object.startsWith("ip:") ? 60_000 : 0);
    expect(await world.at(59.999).consume("p", "u", "K")).toBe("replayed");
    expect(await world.at(60).consume("p", "u", "K")).toBe("admitted");
  });

  test("two attempts at once, each first at another object, are one admission and one replay, charged once", async () => {
    const world = new World();
    let [calls, pass] = [0, () => {}];
    const both = new Promise<void>((resolve) => {
      pass = resolve;
    });
    // The first attempt reaches the user's object at once, the second the address's object. The other two calls arrive later.
    world.beforeArrival = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isFirst = [0, 3].includes(calls++);
      if (calls === 4) pass();
      if (!isFirst) await both;
      expect(object).toMatch(/^(user|ip):/);
    };
    const outcomes = await Promise.all([world.at(0).consume("chat", "u", "K"), world.consume("chat", "u", "K")]);
    expect(outcomes.toSorted()).toEqual(["admitted", "replayed"]);
    expect(world.used("chat", "caller", "user:u", HOUR_MS)).toBe(1);
    expect(world.used("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(1);
    expect(await world.at(3_599).consume("chat", "u", "K")).toBe("replayed");
    expect(world.used("chat", "caller", "user:u", HOUR_MS)).toBe(1);
  });

  test("the rest of a decision that a reset has left admits nobody a second time", async () => {
    const world = new World({ p: layers(["1/minute"], ["5/minute"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.reset(`ip:${IP}`);
    expect(await world.at(20).consume("p", "u", "K")).toBe("denied");
    expect(world.used("p", "ip", `ip:${IP}`, MINUTE_MS)).toBe(0);
  });

  test("one second after its window an id can't be settled and conflicts with nothing", async () => {
    const world = new World({ p: layers(["5/minute"], ["9/hour"]), q: layers(["5/minute"], ["9/hour"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(3_599).consume("q", "u", "K")).toBe("reused-id");
    expect(await world.at(3_601).change("settle", "p", "u", "K")).toBe("unknown-decision");
    expect(await world.at(3_601).consume("q", "u", "K")).toBe("admitted");
  });

  test("an override with a longer window does not make an id known for longer", async () => {
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
    const outcomes: string[] = [];
    for (let hour = 0; hour < 12; hour++) outcomes.push(await world.at(hour * 3_660).consume("chat", "u", "job"));
    expect(outcomes).toEqual(["admitted", "admitted", ...Array(10).fill("denied")]);
    expect(await world.change("settle", "chat", "u", "job")).toBe("unknown-decision");
  });
});

describe("attempts that race", () => {
  test("of one id after its window are one admission and replays, and each object is charged once", async () => {
    const world = new World({ p: layers(["5/minute"], ["30/minute"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => world.at(61).consume("p", "u", "K")));
    expect(outcomes.toSorted()).toEqual(["admitted", ...Array(9).fill("replayed")]);
    expect(world.used("p", "user", "user:u", MINUTE_MS)).toBe(1);
    expect(world.used("p", "ip", `ip:${IP}`, MINUTE_MS)).toBe(1);
  });

  test("never take over the charge of an earlier decision of the id, however short its window", async () => {
    const world = new World({ p: layers(["9/second"], ["9/second"]) });
    const key = `ip:${IP}`;
    const other = [{ policy: "p", layer: "ip", limits: [{ max: 1, windowMs: HOUR_MS }] }];
    world
      .ledger(key)
      .setOverride(key, { kind: "limits", reason: "r", ends: { inMs: HOUR_MS }, layers: other }, START_MS);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    for (const seconds of [1.5, 3, 4.5]) {
      // The first attempt is rolled back only once the second is answered.
      let [first, pass] = ["", () => {}];
      const second = new Promise<void>((resolve) => {
        pass = resolve;
      });
      world.beforeArrival = async (_, call) => {
        if (call.method !== "consume" && call.method !== "rollBack") return;
        first ||= call.question.attempt;
        if (call.method === "rollBack" && call.question.attempt === first) await second;
      };
      const outcome = world.at(seconds).consume("p", "u", "K");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(await world.consume("p", "u", "K")).toBe("denied");
      pass();
      expect(await outcome).toBe("denied");
    }
  });

  test.each<[string, { policy: string; cost: Cost }, { policy: string; cost: Cost }]>([
    ["by two policies", { policy: "p", cost: 1 }, { policy: "q", cost: 1 }],
    ["at two costs", { policy: "p", cost: 1 }, { policy: "p", cost: 2 }],
    ["at two costs of one layer", { policy: "p", cost: { ip: 2 } }, { policy: "p", cost: { ip: 3 } }],
    ["at one cost for both layers, and for one", { policy: "p", cost: 2 }, { policy: "p", cost: { user: 2 } }],
  ])("leave no charge if they are refused: %s, in one millisecond", async (_, first, second) => {
    const world = new World({ p: layers(["9/hour"], ["9/hour"]), q: layers(["9/hour"], ["9/hour"]) });
    const costOf = (cost: Cost, layer: string) => (typeof cost === "number" ? cost : (cost[layer] ?? 1));
    const textOf = (cost: Cost) => JSON.stringify(["user", "ip"].map((layer) => costOf(cost, layer)));
    let [arrived, pass] = [0, () => {}];
    const both = new Promise<void>((resolve) => {
      pass = resolve;
    });
    world.beforeArrival = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isFirst = call.question.policy === first.policy && textOf(call.question.cost) === textOf(first.cost);
      if (isFirst !== object.startsWith("ip:")) await both;
      else if (++arrived === 2) pass();
    };
    const outcomes = await Promise.all(
      [first, second].map(({ policy, cost }) => world.consume(policy, "u", "K", {}, cost)),
    );
    expect(outcomes.toSorted()).toEqual(["admitted", "reused-id"]);
    world.beforeArrival = async () => {};
    const admitted = outcomes[0] === "admitted" ? first : second;
    for (const [layer, key] of [
      ["user", "user:u"],
      ["ip", `ip:${IP}`],
    ] as const) {
      const used = ["p", "q"].reduce((sum, policy) => sum + world.used(policy, layer, key, HOUR_MS), 0);
      expect(used).toBe(costOf(admitted.cost, layer));
    }
    expect(await world.change("settle", admitted.policy, "u", "K")).toBe("done");
    world.evict();
    expect(world.used(admitted.policy, "ip", `ip:${IP}`, HOUR_MS)).toBe(0);
  });

  test("are charged once, even if there are more than an event has claims for, from both sides", async () => {
    const world = new World({ p: layers(["9/hour"], ["9/hour"]) });
    world.beforeArrival = async (object, call) => {
      if (call.method !== "consume" || call.question.recognition) return;
      const isLate = object.startsWith("ip:") === call.question.attempt < "i";
      if (isLate) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => world.at(0).consume("p", "u", "K")));
    expect(outcomes.filter((outcome) => outcome === "admitted")).toHaveLength(1);
    expect(await world.at(10).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
  });

  test("a late rollback removes its own event, even if another attempt has charged beside it", async () => {
    const world = new World({ p: layers(["9/hour"], ["1/minute"]) });
    expect(await world.at(0).consume("p", "x")).toBe("admitted");
    let pass = () => {};
    const late = new Promise<void>((resolve) => {
      pass = resolve;
    });
    world.beforeArrival = async (_, { method }) => {
      if (method === "rollBack") await late;
    };
    const denied = world.at(0).consume("p", "u", "K");
    await new Promise((resolve) => setTimeout(resolve, 20));
    world.beforeArrival = async () => {};
    expect(await world.at(61).consume("p", "u", "K")).toBe("replayed");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(2);
    pass();
    expect(await denied).toBe("denied");
    expect(world.used("p", "user", "user:u", HOUR_MS)).toBe(1);
  });
});

test("an id that is charged again takes its cost and a place, whatever was settled or released before", async () => {
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

test("a replay keeps the charges of its layers, even if an attempt with more layers is rolled back later", async () => {
  const both = { p: layers(["1/minute"], ["9/minute"]) };
  const world = new World(both);
  let pass = () => {};
  const late = new Promise<void>((resolve) => {
    pass = resolve;
  });
  world.isLost = (object) => object.startsWith("ip:");
  world.beforeArrival = async (_, { method }) => {
    if (method === "rollBack") await late;
  };
  const first = world.at(0).consume("p", "u", "K");
  await new Promise((resolve) => setTimeout(resolve, 20));
  world.deploy({ p: { layers: both.p.layers.slice(0, 1) } });
  expect(await world.at(0.5).consume("p", "u", "K")).toBe("replayed");
  pass();
  expect(await first).toBe("unreachable");
  expect(await world.at(1).consume("p", "u", "K2")).toBe("denied");
});

test("a late call of an attempt that was denied or rolled back charges nothing", () => {
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

test("a denial whose answer was lost is decided again if there is room by then", async () => {
  const world = new World({ p: { layers: [{ name: "user", by: ["user"], limits: ["1/minute"] }] } });
  expect(await world.at(0).consume("p", "u", "A")).toBe("admitted");
  let isFirst = true;
  world.beforeAnswer = async (_, { method }) => {
    if (method !== "consume" || !isFirst) return;
    isFirst = false;
    await world.change("settle", "p", "u", "A");
    throw connectionLost();
  };
  expect(await world.consume("p", "u", "K")).toBe("admitted");
});

describe("an id outlives a change of which layers decide", () => {
  const caller = { name: "caller", by: ["user"], limits: ["2 concurrent per hour", "9/hour"] };
  const ip = { name: "ip", by: ["ip"], limits: ["2 concurrent per hour", "9/hour"] };
  const org = { name: "org", by: ["org"], limits: ["2 concurrent per hour", "9/hour"] };
  const shadow = (layer: object) => ({ ...layer, mode: "shadow" });
  const subject = { org: "o" };

  const costs: Cost[] = [1, { caller: 3 }, { caller: 0, ip: 2 }];
  const changes = [
    ["a layer is put live", [caller, shadow(ip)], [caller, ip]],
    ["the first layer is put live", [shadow(caller), ip], [caller, ip]],
    ["a layer is put in shadow", [caller, ip], [caller, shadow(ip)]],
    ["the first layer is put in shadow", [caller, ip], [shadow(caller), ip]],
    ["a layer is added", [caller, ip], [caller, ip, org]],
    ["a layer is added before the others", [caller, ip], [org, caller, ip]],
    ["a layer is taken away", [caller, ip, org], [caller, ip]],
    ["the first layer is taken away", [org, caller, ip], [caller, ip]],
    ["all layers are put live", [shadow(caller), shadow(ip)], [caller, ip]],
  ] as const;
  test.each(costs.flatMap((cost) => changes.map(([change, ...layers]) => [change, cost, ...layers] as const)))(
    "%s, at a cost of %j: sent again, the id is a replay that charges nothing, and can be settled and released",
    async (_, cost, before, after) => {
      const world = new World({ p: { layers: before } });
      expect(await world.at(0).consume("p", "u", "K", subject, cost)).toBe("admitted");
      const old = { p: { layers: before } };
      const next = { p: { layers: after } };
      const keys = { caller: "user:u", ip: `ip:${IP}`, org: "org:o" };
      const usedIn = (kind?: "concurrent") =>
        Object.entries(keys).map(([layer, key]) => world.used("p", layer, key, HOUR_MS, kind));
      const used = usedIn();
      // Old and new code run side by side.
      for (const policies of [next, old, next]) {
        world.deploy(policies);
        expect(await world.at(10).consume("p", "u", "K", subject, cost)).toBe("replayed");
        expect(usedIn()).toEqual(used);
      }
      expect(await world.change("release", "p", "u", "K", subject)).toBe("done");
      // A key that no layer counts by any more is out of reach.
      const left = before.length > after.length ? 1 : 0;
      expect(usedIn("concurrent")).toEqual([0, 0, left]);
      expect(await world.change("settle", "p", "u", "K", subject)).toBe("done");
      expect(usedIn()).toEqual([0, 0, left]);
      expect(await world.consume("p", "another", "K", { org: "another", ip: "198.51.100.1" })).toBe("admitted");
    },
  );

  test.each(costs)(
    "the first layer, in shadow so far, is put live: it alone still knows the id, and the same cost of %j is no conflict",
    async (cost) => {
      const layersWith = (mode: string) => [
        { ...caller, mode },
        { ...ip, limits: ["9/minute"] },
      ];
      const world = new World({ p: { layers: layersWith("shadow") } });
      expect(await world.at(0).consume("p", "u", "K", subject, cost)).toBe("admitted");
      world.deploy({ p: { layers: layersWith("live") } });
      expect(await world.at(120).consume("p", "u", "K", subject, cost)).toBe("replayed");
      expect(world.used("p", "ip", `ip:${IP}`, 60_000)).toBe(costIn(cost, "ip"));
      expect(await world.consume("p", "u", "K", subject, { caller: 4 })).toBe("reused-id");
    },
  );

  test("the last live layer is put in shadow: its cost is not compared with that of a layer that was in shadow before", async () => {
    const twin = { ...caller, name: "twin" };
    const world = new World({ p: { layers: [caller, shadow(twin)] } });
    expect(await world.at(0).consume("p", "u", "K", subject, { twin: 3 })).toBe("admitted");
    world.deploy({ p: { layers: [shadow(caller)] } });
    expect(await world.at(1).consume("p", "u", "K", subject, { caller: 1 })).toBe("replayed");
  });

  test("all layers, in shadow so far, are put live: another cost in any of them is a conflict", async () => {
    const world = new World({ p: { layers: [shadow(caller), shadow(ip)] } });
    expect(await world.at(0).consume("p", "u", "K", subject, { caller: 3, ip: 3 })).toBe("admitted");
    world.deploy({ p: { layers: [caller, ip] } });
    expect(await world.consume("p", "u", "K", subject, { caller: 3, ip: 4 })).toBe("reused-id");
    expect(await world.consume("p", "u", "K", subject, 3)).toBe("replayed");
  });

  test.each([
    ["by the new configuration, and asked about by the old one", [caller, ip, org], [caller, ip]],
    ["by the old configuration, and asked about by the new one", [caller, ip], [caller, ip, org]],
  ])("admitted %s, on a key with several pages", async (_, first, then) => {
    const world = new World({ p: { layers: first.map((layer) => ({ ...layer, limits: ["900/hour"] })) } });
    for (let i = 0; i < 100; i++) expect(await world.at(i).consume("p", "u", `K${i}`, subject)).toBe("admitted");
    world.deploy({ p: { layers: then.map((layer) => ({ ...layer, limits: ["900/hour"] })) } });
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

  test("are reached by a settle and a release if only they still know the id", async () => {
    const world = new World(policy(["5/minute"], ["2 concurrent per hour", "5/hour"]));
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(61).change("release", "p", "u", "K")).toBe("done");
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS, "concurrent")).toBe(0);
    expect(await world.change("settle", "p", "u", "K")).toBe("done");
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(0);
    expect(await world.at(3_600).change("settle", "p", "u", "K")).toBe("unknown-decision");
  });

  test("count what the live layers admit again, and not their replays", async () => {
    const world = new World(policy(["5/minute"], ["9/hour"]));
    const outcomes: string[] = [];
    for (const seconds of [0, 59, 60, 119]) outcomes.push(await world.at(seconds).consume("p", "u", "K"));
    expect(outcomes).toEqual(["admitted", "replayed", "admitted", "replayed"]);
    expect(world.used("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(2);
  });
});

test("a concurrent limit that is declared later does not count decisions that were released before", async () => {
  const layer = { name: "user", by: ["user"], limits: ["9/hour"] };
  const world = new World({ p: { layers: [layer] } });
  for (const id of ["A", "B", "C"]) expect(await world.at(0).consume("p", "u", id)).toBe("admitted");
  for (const id of ["A", "B"]) expect(await world.change("release", "p", "u", id)).toBe("done");
  world.deploy({ p: { layers: [{ ...layer, limits: ["9/hour", "2 concurrent per hour"] }] } });
  expect(await world.consume("p", "u")).toBe("admitted");
  expect(await world.consume("p", "u")).toBe("denied");
});
