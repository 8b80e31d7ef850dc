import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Caller, type DecisionBody, json, newSubject } from "../behaviour/target";
import { workerTarget } from "./target";
import { type Call, methods, watched } from "./watched";

let errors: ReturnType<typeof vi.spyOn>;
/** Increases from test to test: tests share shards, whose time never goes back. */
let startMs = Date.UTC(2040, 0, 1);
beforeEach(() => {
  startMs += 86_400_000;
  vi.useFakeTimers({ toFake: ["Date"], now: startMs });
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => {
  errors.mockRestore();
  vi.useRealTimers();
});

const placements = ["key", "shards:1", "shards:3"];
const isOf = (attribute: string) => (call: Call) => call.object.startsWith(`${attribute}:`);

describe("what layers in shadow cost", () => {
  const newMember = () => ({ ...newSubject(), org: `o_${crypto.randomUUID()}` });

  test("with an object a key, live layers are asked first, then layers in shadow, and a denial rolls back as usual", async () => {
    const { caller, calls } = watched("key");
    const subject = newMember();
    await caller.consume("trial", subject);
    expect(calls.splice(0)).toEqual([
      { object: `user:${subject.user}`, method: "consume" },
      { object: `ip:${subject.ip}`, method: "consume" },
      { object: `org:${subject.org}`, method: "consume" },
    ]);
    await caller.check("trial", subject);
    expect(methods(calls.splice(0))).toEqual(["check", "check", "check"]);
    await caller.consume("trial", subject, 4);
    expect(methods(calls.splice(0))).toEqual(["consume"]);
    const colleague = { ...newMember(), org: subject.org };
    await caller.consume("trial", colleague);
    calls.length = 0;
    await caller.consume("trial", colleague);
    expect(calls.map(({ object, method }) => [object.split(":")[0], method])).toEqual([
      ["user", "consume"],
      ["ip", "consume"],
      ["org", "consume"],
      ["ip", "rollBack"],
    ]);
  });

  test("a denied request checks layers in shadow, and a cached denial makes no call", async () => {
    const { caller, calls } = watched("key");
    const subject = newMember();
    await caller.consume("trial", subject, 2);
    await caller.consume("trial", { user: subject.user }, 3);
    calls.length = 0;
    const layersOf = ({ limits }: DecisionBody) => limits.map(({ layer }) => layer);
    const first = await caller.consume("trial", subject);
    expect([first.allowed, first.would_deny, layersOf(first)]).toEqual([false, true, ["ip", "caller", "org"]]);
    expect(methods(calls.splice(0))).toEqual(["consume", "check", "check"]);
    const second = await caller.consume("trial", subject);
    expect([second.allowed, second.shadow, second.would_deny, layersOf(second)]).toEqual([
      false,
      true,
      false,
      ["caller"],
    ]);
    expect(calls).toEqual([]);
  });

  test("a policy in shadow costs no more calls than a live policy, and caches no denial", async () => {
    const { caller, calls } = watched("key");
    const subject = newSubject();
    for (let i = 0; i < 7; i++) await caller.consume("rehearsal", subject);
    expect(methods(calls)).toEqual([
      ...Array.from({ length: 10 }, () => "consume"),
      ...Array.from({ length: 2 }, () => ["consume", "consume", "rollBack"]).flat(),
    ]);
  });

  test("a batch costs one call more to each object, and one to each object that rolls back", async () => {
    const requestsOf = (policy: string, subjects: object[]) =>
      subjects.map((subject) => ({ op: "consume", policy, subject }));
    const [a, b] = [newMember(), newMember()];
    const members = [a, b, a, b].map((member) => ({ ...member, org: a.org }));
    const cases = [
      ["key", "trial", members.slice(0, 2), ["ip 1", "ip 1", "org 1", "user 1", "user 1"]],
      ["shards:1", "trial", members, ["shard 2"]],
      ["shards:1", "rehearsal", members, ["shard 1"]],
    ] as const;
    for (const [placement, policy, subjects, expected] of cases) {
      const { caller, calls } = watched(placement);
      await caller.post("/v1/batch", { requests: requestsOf(policy, [...subjects]) });
      const perObject = new Map<string, number>();
      for (const { object } of calls) perObject.set(object, (perObject.get(object) ?? 0) + 1);
      expect([...perObject].map(([object, count]) => `${object.split(":")[0]} ${count}`).sort()).toEqual(expected);
    }
    const { caller, calls } = watched("key");
    await caller.post("/v1/batch", { requests: requestsOf("trial", [...members, ...members]) });
    for (const { object } of calls) {
      const made = calls.filter((call) => call.object === object).length;
      expect([object, made <= (object.startsWith("ip:") ? 2 : 1)]).toEqual([object, true]);
    }
  });
});

describe("an unreachable object of a layer in shadow", () => {
  const subject = () => ({ ...newSubject(), org: `o_${crypto.randomUUID()}` });
  const summaryOf = ({ allowed, degraded, shadow, would_deny, limits }: DecisionBody) => {
    return { allowed, degraded, shadow, would_deny, layers: limits.map(({ layer, used }) => `${layer} ${used}`) };
  };

  test.each(["lost", "lostAnswer", "overloaded", "hangs"] as const)(
    "changes no decision, and its layers are left out: %s",
    async (fault) => {
      const member = subject();
      const { caller } = watched("key", (call) => (isOf("org")(call) ? fault : "none"), {
        // Each call waits for an object that hangs. The others must not run into the deadline on a busy machine.
        RATE_LIMIT_DEADLINE_MS: fault === "hangs" ? "1000" : "10000",
      });
      const admitted = { allowed: true, degraded: false, shadow: true, would_deny: false };
      expect(summaryOf(await caller.consume("trial", member))).toEqual({ ...admitted, layers: ["ip 0", "caller 1"] });
      expect(summaryOf(await caller.check("trial", member))).toEqual({ ...admitted, layers: ["ip 0", "caller 1"] });
      await caller.consume("trial", { ip: member.ip, user: newSubject().user }, 3);
      expect(summaryOf(await caller.consume("trial", member))).toEqual({
        ...admitted,
        would_deny: true,
        layers: ["ip 3", "caller 2"],
      });
      expect(errors).toHaveBeenCalled();
    },
    20_000,
  );

  test("is left out of a settle; without live layers the settle fails", async () => {
    const member = subject();
    const { caller } = watched("key", (call) => (isOf("ip")(call) && call.method === "settle" ? "lost" : "none"));
    const settle = async (policy: string, id: unknown) =>
      caller.post("/v1/settle", { policy, subject: member, id, cost: 2 });
    const settled = await settle("trial", (await caller.consume("trial", member)).id);
    expect(settled.status).toBe(200);
    expect((await json<DecisionBody>(settled)).limits.map(({ layer, used }) => `${layer} ${used}`)).toEqual([
      "caller 2",
      "org 2",
    ]);
    expect((await settle("rehearsal", (await caller.consume("rehearsal", member)).id)).status).toBe(503);
  });

  test("is not asked if an object of a live layer is unreachable", async () => {
    for (const [onError, status] of [
      ["deny", 503],
      ["allow", 200],
    ] as const) {
      const { caller, calls } = watched("key", (call) => (isOf("user")(call) ? "lost" : "none"), {
        RATE_LIMIT_ON_ERROR: onError,
      });
      const response = await caller.post("/v1/consume", { policy: "trial", subject: subject() });
      expect([response.status, methods(calls)]).toEqual([status, ["consume"]]);
      const body = await json<DecisionBody>(response);
      if (status === 200) expect(body).toMatchObject({ allowed: true, degraded: true, limits: [] });
      expect(body).not.toHaveProperty("shadow");
    }
  });
});

describe("a change of mode", () => {
  const policies = (mode: string) => ({
    RATE_LIMIT_POLICIES: { upload: { layers: [{ name: "caller", by: ["user"], limits: ["5/minute"], mode }] } },
  });

  test.each(placements)("keeps the counters, in both directions: %s", async (placement) => {
    const callerIn = (variables: object) => new Caller(workerTarget({ LIMITER_PLACEMENT: placement, ...variables }));
    for (const [policy, variables] of [
      ["upload", policies],
      ["chat", (mode: string) => ({ RATE_LIMIT_CHAT_MODE: mode })],
    ] as const) {
      const subject = newSubject();
      const [shadow, live] = [callerIn(variables("shadow")), callerIn(variables("live"))];
      expect(await shadow.consume(policy, subject, 3)).toMatchObject({ allowed: true, would_deny: false });
      const second = await live.consume(policy, subject, 2);
      expect([second.allowed, second.limits[0]?.used, second.shadow]).toEqual([true, 5, undefined]);
      expect((await live.consume(policy, subject)).allowed).toBe(false);
      expect(await shadow.consume(policy, subject)).toMatchObject({ allowed: true, would_deny: true });
      expect((await live.check(policy, subject)).limits[0]?.used).toBe(5);
      vi.setSystemTime(Date.now() + 59_999);
      expect((await live.consume(policy, subject)).allowed).toBe(false);
      vi.setSystemTime(Date.now() + 1);
      expect((await live.consume(policy, subject)).allowed).toBe(true);
    }
  });
});

test("layers in shadow follow the live layers: they count an id again that is admitted again", async () => {
  const layersWith = (live: string, shadow: string) => [
    { name: "caller", by: ["user"], limits: [live] },
    { name: "org", by: ["org"], limits: [shadow], mode: "shadow" },
  ];
  const caller = new Caller(
    workerTarget({
      RATE_LIMIT_POLICIES: {
        "long-shadow": { layers: layersWith("5/minute", "5/hour") },
        "long-live": { layers: layersWith("5/hour", "5/minute") },
      },
    }),
  );
  const subject = { user: newSubject().user, org: `o_${crypto.randomUUID()}` };
  const once = async (policy: string) => {
    const headers = { "Idempotency-Key": policy };
    const { replayed, limits } = await json<DecisionBody>(
      await caller.post("/v1/consume", { policy, subject }, headers),
    );
    return [replayed, ...limits.map(({ used }) => used)];
  };
  expect([await once("long-shadow"), await once("long-live")]).toEqual([
    [false, 1, 1],
    [false, 1, 1],
  ]);
  vi.setSystemTime(Date.now() + 60_000);
  expect([await once("long-shadow"), await once("long-live")]).toEqual([
    [false, 1, 2],
    [true, 1, 0],
  ]);
});

describe("a policy in shadow", () => {
  const layers = [
    { name: "caller", by: ["user", "ip"], limits: ["3 per 2 seconds", "6 per 20 seconds"] },
    { name: "ip", by: ["ip"], limits: ["4 per 2 seconds"] },
  ];
  const smallest = 3;
  const step = fc.record({
    op: fc.constantFrom("consume", "consume", "consume", "consume", "check", "settle"),
    user: fc.constantFrom("a", "b", ""),
    ip: fc.constantFrom("1", "2"),
    cost: fc.constantFrom(1, 1, 1, 2, 3, 4),
    /** The idempotency key of a consume, or the id to settle. */
    id: fc.constantFrom("", "", "", "k1", "k2", "k3"),
    afterMs: fc.constantFrom(0, 0, 1, 499, 500, 1_999, 2_000),
  });

  /** The outcome of a step, in the same words for both modes. */
  function outcomeOf(op: string, status: number, body: DecisionBody) {
    const { would_deny: wouldDeny, allowed, replayed = false, limits = [] } = body;
    const used = limits.map(({ layer, used, reset_seconds }) => [layer, used, reset_seconds]);
    if (op === "settle") return { status, used };
    const isDenied = wouldDeny ?? !allowed;
    return { isDenied, replayed, used };
  }

  test.each(placements)(
    "counts like the same live policy, and would deny what that denies, over the same traffic: %s",
    async (placement) => {
      const seen = { admitted: 0, denied: 0, replayed: 0, settled: 0 };
      const callers = (["live", "shadow"] as const).map((mode) => {
        // No denial cache: cached denials have older figures, and a policy in shadow caches none.
        const variables = {
          LIMITER_PLACEMENT: placement,
          RATE_LIMIT_DENY_CACHE_MS: "0",
          RATE_LIMIT_DEADLINE_MS: "60000",
        };
        const RATE_LIMIT_POLICIES = { [`twin-${mode}`]: { mode, layers } };
        return { policy: `twin-${mode}`, caller: new Caller(workerTarget({ ...variables, RATE_LIMIT_POLICIES })) };
      });
      const history = fc.array(step, { minLength: 60, maxLength: 60 });
      await fc.assert(
        fc.asyncProperty(history, async (history) => {
          const run = crypto.randomUUID();
          const net = `10.${Math.floor(Math.random() * 65_536) >> 8}.${Math.floor(Math.random() * 256)}`;
          for (const { op, user, ip, cost, id, afterMs } of history) {
            vi.setSystemTime(Date.now() + afterMs);
            const subject = { user: user && `${user}-${run}`, ip: `${net}.${ip}` };
            const outcomes: unknown[] = [];
            for (const { policy, caller } of callers) {
              const settled = op === "settle" ? { id: `${run}-${id || "k1"}` } : {};
              const headers: Record<string, string> = {};
              if (op === "consume" && id !== "") headers["Idempotency-Key"] = `${run}-${id}`;
              const response = await caller.post(`/v1/${op}`, { policy, subject, cost, ...settled }, headers);
              outcomes.push(response.status === 422 ? "refused" : outcomeOf(op, response.status, await json(response)));
            }
            const [live, shadow] = outcomes;
            if (live === "refused") expect(shadow).toMatchObject({ isDenied: cost > smallest, replayed: false });
            if (live === "refused") continue;
            expect(shadow).toEqual(live);
            const { isDenied, replayed, status } = live as { isDenied?: boolean; replayed?: boolean; status?: number };
            if (status === 200) seen.settled++;
            else if (replayed) seen.replayed++;
            else if (isDenied === true) seen.denied++;
            else if (isDenied === false) seen.admitted++;
          }
          const [live, shadow] = await Promise.all(
            callers.map(({ policy, caller }) => caller.used(policy, { user: `a-${run}`, ip: `${net}.1` })),
          );
          expect(shadow).toEqual(live);
        }),
        { numRuns: 15, endOnFailure: true },
      );
      for (const count of Object.values(seen)) expect(count).toBeGreaterThan(5);
      // No object was unreachable, however busy the machine.
      expect(errors).not.toHaveBeenCalled();
    },
    120_000,
  );
});
