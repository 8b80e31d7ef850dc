import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Ledger } from "../../src/object/ledger";
import type { Call } from "../../src/object/protocol";
import { Disk } from "./disk";
import { connectionLost, type Fate, IP, World } from "./world";

const START_MS = 1_800_000_000_000;

/** Messages take no time, and the isolate remembers no denials: a test names every instant. */
const worldOf = (policies: ConstructorParameters<typeof World>[0] = {}) =>
  new World(policies, arrive, { RATE_LIMIT_DENY_CACHE_MS: "0" });
const arrive = (): Fate => ({ delayMs: 0 });
/** Rollbacks never arrive. */
const losingRollbacks = (_: string, [call]: readonly Call[]): Fate => ({
  delayMs: 0,
  lost: call?.method === "undo" ? "gone" : undefined,
});

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const layers = (user: string[], ip: string[]) => [
  { name: "user", by: ["user"], limits: user },
  { name: "ip", by: ["ip"], limits: ip },
];

// Calls that are lost are logged: that is what is wanted here.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

describe("a decision is known as a whole or not at all", () => {
  test("a charge that was denied elsewhere, and could not be put back, admits nobody later", async () => {
    const world = worldOf();
    for (let i = 0; i < 30; i++) await world.at(0).consume("chat", `u${i}`);
    world.fateOf = losingRollbacks;
    expect(await world.consume("chat", "u", "K")).toBe("denied");
    world.fateOf = arrive;
    for (let i = 0; i < 5; i++) expect(await world.at(90).consume("chat", "u")).toBe("admitted");
    expect(await world.at(100).consume("chat", "u", "K")).toBe("denied");
    expect(world.stored("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(5);
  });

  test("it counts from when it was admitted, not from an attempt that was told a denial", async () => {
    const world = worldOf({ p: layers(["2/minute"], ["2/minute"]) });
    for (const user of ["x", "y"]) await world.at(0).consume("p", user);
    world.fateOf = losingRollbacks;
    expect(await world.at(30).consume("p", "u", "K")).toBe("denied");
    world.fateOf = arrive;
    expect(await world.at(89).consume("p", "u", "K")).toBe("replayed");
    expect(await world.at(90.001).consume("p", "u")).toBe("admitted");
    expect(await world.at(90.001).consume("p", "u")).toBe("denied");
    expect(await world.at(148.999).consume("p", "u")).toBe("denied");
  });

  test("an id that is charged anew after its window, and denied elsewhere, is no free replay", async () => {
    const world = worldOf({ p: layers(["5/minute", "60/hour"], ["1 per 2 hours"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    // Two hours are the longest window, so the user's object is made to forget.
    world.reset("user:u");
    world.fateOf = losingRollbacks;
    expect(await world.at(3_601).consume("p", "u", "K")).toBe("denied");
    world.fateOf = arrive;
    expect(await world.at(3_605).consume("p", "u", "K")).toBe("denied");
  });

  test("the window's end is told by one clock: an id that its first object forgets is charged in every layer", async () => {
    const world = worldOf({ p: layers(["5/minute", "60/hour"], ["1/hour"]) });
    // The address's object decides 5 ms later.
    world.aheadMs = (object) => (object.startsWith("ip:") ? 5 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = () => 0;
    world.fateOf = losingRollbacks;
    expect(await world.at(3_600).consume("p", "u", "K")).toBe("denied");
    world.fateOf = arrive;
    expect(await world.at(3_600.004).consume("p", "u", "K")).toBe("denied");
    // What could not be put back makes it known to the user's object, and it is charged in every layer all the same.
    expect(await world.at(3_600.005).consume("p", "u", "K")).toBe("replayed");
    expect(world.stored("p", "user", "user:u", HOUR_MS)).toBe(1);
    expect(world.stored("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(1);
  });

  test("and one that its first object knows is a replay, also where another object's clock has passed its window", async () => {
    const world = worldOf({ p: layers(["1/minute"], ["1/minute"]) });
    world.aheadMs = (object) => (object.startsWith("ip:") ? 30_000 : 0);
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.aheadMs = (object) => (object.startsWith("ip:") ? 60_000 : 0);
    expect(await world.at(59.999).consume("p", "u", "K")).toBe("replayed");
    expect(await world.at(60).consume("p", "u", "K")).toBe("admitted");
  });

  test("of two attempts at once, each the first at another object, one is no replay, and each object is charged once", async () => {
    const world = worldOf();
    let [calls, pass] = [0, () => {}];
    const both = new Promise<void>((resolve) => {
      pass = resolve;
    });
    // The first attempt reaches the user's object at once, the second the address's; then the two others arrive.
    world.arrived = async (object, call) => {
      if (call.method !== "consume" || call.question.verdict) return;
      const isFirst = [0, 3].includes(calls++);
      if (calls === 4) pass();
      if (!isFirst) await both;
      expect(object).toMatch(/^(user|ip):/);
    };
    const told = await Promise.all([world.at(0).consume("chat", "u", "K"), world.consume("chat", "u", "K")]);
    expect(told.toSorted()).toEqual(["admitted", "replayed"]);
    expect(world.stored("chat", "caller", "user:u", HOUR_MS)).toBe(1);
    expect(world.stored("chat", "ip", `ip:${IP}`, MINUTE_MS)).toBe(1);
    expect(await world.at(3_599).consume("chat", "u", "K")).toBe("replayed");
    expect(world.stored("chat", "caller", "user:u", HOUR_MS)).toBe(1);
  });

  test("what a reset has left of it admits nobody a second time", async () => {
    const world = worldOf({ p: layers(["1/minute"], ["5/minute"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    world.reset(`ip:${IP}`);
    expect(await world.at(20).consume("p", "u", "K")).toBe("denied");
    expect(world.stored("p", "ip", `ip:${IP}`, MINUTE_MS)).toBe(0);
  });

  test("a second after its window nobody settles it, and it conflicts with nothing", async () => {
    const world = worldOf({ p: layers(["5/minute"], ["9/hour"]), q: layers(["5/minute"], ["9/hour"]) });
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(3_599).consume("q", "u", "K")).toBe("reused-id");
    expect(await world.at(3_601).change("settle", "p", "u", "K")).toBe("unknown-decision");
    expect(await world.at(3_601).consume("q", "u", "K")).toBe("admitted");
  });

  test("an override with a longer window makes no id known for longer", async () => {
    const world = worldOf();
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

test("a call of an attempt that was denied or rolled back charges nothing, however late it comes again", () => {
  const ledger = new Ledger(new Disk());
  const counters = [{ layer: "l", key: "k:1", limits: [{ max: 1, windowMs: MINUTE_MS }] }];
  const ask = (method: "consume" | "undo" | "settle", id: string, attempt: string, cost = 1) => {
    const question = { policy: "p", cost, counters, id, subject: "l=s", attempt, keepMs: MINUTE_MS };
    const [outcome] = ledger.decide([{ method, question } as Call], START_MS);
    if (!outcome || !("answer" in outcome)) throw new Error(outcome?.error);
    return outcome.answer.allowed;
  };
  expect(ask("consume", "A", "1")).toBe(true);
  expect(ask("consume", "K", "2")).toBe(false);
  ask("settle", "A", "1", 0);
  expect(ask("consume", "K", "2")).toBe(false);
  expect(ask("consume", "K", "3")).toBe(true);
  ask("undo", "K", "3");
  expect(ask("consume", "K", "3")).toBe(false);
  expect(ask("consume", "K", "4")).toBe(true);
});

test("a denial whose answer was lost is decided afresh when there is room by then", async () => {
  const world = worldOf({ p: [{ name: "user", by: ["user"], limits: ["1/minute"] }] });
  expect(await world.at(0).consume("p", "u", "A")).toBe("admitted");
  let isFirst = true;
  world.answered = async (_, { method }) => {
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
      const world = worldOf({ p: before });
      expect(await world.at(0).consume("p", "u", "K", subject)).toBe("admitted");
      const old = { p: before };
      const next = { p: after };
      const keys = { caller: "user:u", ip: `ip:${IP}`, org: "org:o" };
      const usedIn = (kind?: "concurrent") =>
        Object.entries(keys).map(([layer, key]) => world.stored("p", layer, key, HOUR_MS, kind));
      const used = usedIn();
      // Old and new code run side by side.
      for (const policies of [next, old, next]) {
        world.deploy(policies);
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
    const world = worldOf({ p: first.map((layer) => ({ ...layer, limits: ["900/hour"] })) });
    for (let i = 0; i < 100; i++) expect(await world.at(i).consume("p", "u", `K${i}`, subject)).toBe("admitted");
    world.deploy({ p: then.map((layer) => ({ ...layer, limits: ["900/hour"] })) });
    for (let i = 0; i < 100; i++) expect(await world.at(200).consume("p", "u", `K${i}`, subject)).toBe("replayed");
    expect(world.stored("p", "caller", "user:u", HOUR_MS)).toBe(100);
  });
});

describe("layers in shadow", () => {
  const policy = (user: string[], ip: string[]) => ({
    p: [
      { name: "user", by: ["user"], limits: user },
      { name: "ip", by: ["ip"], limits: ip, mode: "shadow" },
    ],
  });

  test("are reached by a settle and a release whose id they alone still remember", async () => {
    const world = worldOf(policy(["5/minute"], ["2 concurrent per hour", "5/hour"]));
    expect(await world.at(0).consume("p", "u", "K")).toBe("admitted");
    expect(await world.at(61).change("release", "p", "u", "K")).toBe("done");
    expect(world.stored("p", "ip", `ip:${IP}`, HOUR_MS, "concurrent")).toBe(0);
    expect(await world.change("settle", "p", "u", "K")).toBe("done");
    expect(world.stored("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(0);
    expect(await world.at(3_600).change("settle", "p", "u", "K")).toBe("unknown-decision");
  });

  test("count what the live layers admit anew, and not what is a replay to them", async () => {
    const world = worldOf(policy(["5/minute"], ["9/hour"]));
    const told: string[] = [];
    for (const seconds of [0, 59, 60, 119]) told.push(await world.at(seconds).consume("p", "u", "K"));
    expect(told).toEqual(["admitted", "replayed", "admitted", "replayed"]);
    expect(world.stored("p", "ip", `ip:${IP}`, HOUR_MS)).toBe(2);
  });
});

test("a limit on what is concurrent that is declared later counts no decision that was released before", async () => {
  const layer = { name: "user", by: ["user"], limits: ["9/hour"] };
  const world = worldOf({ p: [layer] });
  for (const id of ["A", "B", "C"]) expect(await world.at(0).consume("p", "u", id)).toBe("admitted");
  for (const id of ["A", "B"]) expect(await world.change("release", "p", "u", id)).toBe("done");
  world.deploy({ p: [{ ...layer, limits: ["9/hour", "2 concurrent per hour"] }] });
  expect(await world.consume("p", "u")).toBe("admitted");
  expect(await world.consume("p", "u")).toBe("denied");
});
