import { abortAllDurableObjects, createExecutionContext } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Policy } from "../../src/core/policy";
import { Counts } from "../../src/counting/counts";
import { noSignIns } from "../../src/counting/sign-ins";
import { STATS_NAMES, StatsObjects, type StatsStub } from "../../src/counting/stats-objects";
import { appOf } from "../../src/http/app";
import { ROUTES } from "../../src/http/routes";
import { realTiming } from "../../src/objects/timing";
import type { Stats } from "../../src/request/admin-schema";
import { readConsume } from "../../src/request/read";
import { type Env, serviceOf } from "../../src/service";
import type { LimiterRpc } from "../../src/worker";
import { Caller, json, newSubject, type ProblemBody, type Target } from "../behaviour/target";
import { type Bindings, workerTarget } from "./target";

const real = env as unknown as Bindings;
const handle = appOf(ROUTES);

/** The service with a stats object of its own. Counts are sent when they are requested, or seconds later. */
function countingTarget(variables: Record<string, unknown> = {}): Caller {
  const name = crypto.randomUUID();
  const stats = { getByName: (object: string) => real.LIMITER_STATS.getByName(`${name} ${object}`) };
  const environment = { ...real, LIMITER_STATS: stats, ...variables } as unknown as Bindings;
  const target: Target = {
    callerToken: "caller-token",
    adminToken: "admin-token",
    fetch: (path, init) =>
      handle(
        new Request(`https://limiter.test${path}`, init as RequestInit<RequestInitCfProperties>),
        environment,
        createExecutionContext(),
      ),
  };
  return new Caller(target);
}

const statsOf = async (caller: Caller, query = "") => json<Stats>(await caller.admin(`/v1/stats${query}`));

/** All counts, by names like `chat denied` and `chat/caller denied`. */
function summed({ minutes }: Stats): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { policy, layer, outcome, count } of minutes.flatMap(({ counts }) => counts)) {
    const name = `${policy}${layer === null ? "" : `/${layer}`} ${outcome}`;
    sums[name] = (sums[name] ?? 0) + count;
  }
  return sums;
}

const decisions = (stats: Stats) =>
  stats.minutes
    .flatMap(({ counts }) => counts.filter(({ layer }) => layer === null))
    .reduce((n, { count }) => n + count, 0);

let errors: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => errors.mockRestore());

describe("a consume", () => {
  test("is counted once, and for each layer that caused its denial", async () => {
    const caller = countingTarget();
    const { user, ip } = newSubject();
    const other = newSubject();
    await caller.consume("chat", { user, ip }, 5);
    await caller.consume("chat", { user, ip });
    await caller.consume("chat", { user, ip });
    for (let i = 0; i < 2; i++)
      await caller.post("/v1/consume", { policy: "chat", subject: other }, { "Idempotency-Key": "k" });
    const stats = await statsOf(caller);
    expect(summed(stats)).toEqual({
      "chat allowed": 2,
      "chat denied": 1,
      "chat denied_at_edge": 1,
      "chat replayed": 1,
      "chat/caller denied": 1,
      "chat/caller denied_at_edge": 1,
    });
    expect(stats.denied_keys).toEqual([{ key: `user:${user}`, policy: "chat", layer: "caller", count: 2, error: 0 }]);
    expect(stats.error_at_most).toBe(0);
  });

  test("bounds how often a key that is not listed was denied", async () => {
    const caller = countingTarget({ RATE_LIMIT_CHAT_PER_MIN: "1", LIMITER_PLACEMENT: "shards:1" });
    for (let i = 0; i < 52; i++) {
      const requests = Array(i < 49 ? 4 : 3).fill({ op: "consume", policy: "chat", subject: newSubject() });
      await caller.post("/v1/batch", { requests });
    }
    const { denied_keys: keys, error_at_most: most } = await statsOf(caller);
    expect(keys.map(({ count }) => count)).toEqual([...Array(49).fill(3), 2]);
    expect(most).toBe(2);
  });

  test("is counted as denied in shadow, and for each layer in shadow that would deny, if no live layer denies", async () => {
    const caller = countingTarget();
    const { user, ip, org } = { ...newSubject(), org: crypto.randomUUID() };
    for (let i = 0; i < 6; i++) await caller.consume("trial", { user, ip, org });
    expect(summed(await statsOf(caller))).toEqual({
      "trial allowed": 2,
      "trial shadow_denied": 3,
      "trial denied": 1,
      "trial/org shadow_denied": 4,
      "trial/caller denied": 1,
    });
  });

  test("is counted as denied in shadow for the layers whose limit is below its cost, asked or not", async () => {
    const caller = countingTarget();
    const { user, ip, org } = { ...newSubject(), org: crypto.randomUUID() };
    await caller.consume("trial", { user, ip, org }, 3);
    expect(summed(await statsOf(caller))).toEqual({ "trial shadow_denied": 1, "trial/org shadow_denied": 1 });
    await caller.consume("trial", { user, ip, org }, 4);
    await caller.consume("trial", { user, ip, org }, 4);
    expect(summed(await statsOf(caller))).toEqual({
      "trial shadow_denied": 1,
      "trial denied": 1,
      "trial denied_at_edge": 1,
      "trial/caller denied": 1,
      "trial/caller denied_at_edge": 1,
      "trial/org shadow_denied": 3,
      "trial/ip shadow_denied": 2,
    });
  });

  test("is counted as an error or as degraded if all objects are unreachable", async () => {
    const broken = { getByName: () => ({ decide: () => Promise.reject(new Error("gone")) }) };
    for (const [RATE_LIMIT_ON_ERROR, outcome] of Object.entries({ deny: "error", allow: "degraded" })) {
      const caller = countingTarget({ LIMITER_OBJECTS: broken, RATE_LIMIT_ON_ERROR });
      await caller.consume("chat", newSubject());
      expect(summed(await statsOf(caller))).toEqual({ [`chat ${outcome}`]: 1 });
    }
  });

  test("is the only call that is counted: a check, a settle and a refused request are not", async () => {
    const caller = countingTarget();
    const subject = newSubject();
    await caller.check("chat", subject);
    await caller.consume("chat", subject, 6);
    await caller.consume("nope", subject);
    await caller.post("/v1/consume", { policy: "chat" });
    await caller.post("/v1/settle", { policy: "chat", subject, id: "none", cost: 1 });
    expect((await statsOf(caller)).minutes).toEqual([]);
  });

  test("with inline limits is counted for no layer, since there may be any number of layers", async () => {
    const caller = countingTarget();
    const body = { layers: [{ name: "login", key: "a/b", limits: ["1/minute"] }] };
    for (let i = 0; i < 2; i++) await caller.post("/v1/inline/consume", body);
    const stats = await statsOf(caller);
    expect(summed(stats)).toEqual({ "inline allowed": 1, "inline denied": 1 });
    expect(stats.denied_keys).toMatchObject([{ key: "inline/a/b", policy: "inline", layer: "login", count: 1 }]);
  });

  test("is counted over HTTP, in batches and over RPC, on any number of isolates", async () => {
    const { LimiterRpc: rpc } = exports as unknown as { LimiterRpc: Service<LimiterRpc> };
    // RPC counts in the service's own stats object, so the others must use it as well.
    const [first, second] = [
      countingTarget({ LIMITER_STATS: real.LIMITER_STATS }),
      countingTarget({ LIMITER_STATS: real.LIMITER_STATS }),
    ];
    const subjects = [newSubject(), newSubject()];
    let sent = 0;
    for (let i = 0; i < 20; i++) {
      const subject = subjects[i % 2] ?? newSubject();
      await first.consume("chat", subject);
      await rpc.consume({ policy: "chat", subject, idempotency_key: `k${i >> 1}` });
      const consumes = Array.from({ length: 3 }, () => ({ op: "consume", policy: "chat", subject }) as const);
      await second.post("/v1/batch", { requests: [...consumes, { op: "check", policy: "chat", subject }] });
      await rpc.batch({ requests: consumes });
      sent += 8;
    }
    await statsOf(first);
    // The counts of RPC are sent within seconds.
    await vi.waitFor(async () => expect(decisions(await statsOf(second))).toBe(sent), { timeout: 8_000 });
  });
});

describe("the stats object", () => {
  test("learns of a denial within seconds, without a request for the counts", async () => {
    const caller = countingTarget();
    const subject = newSubject();
    const { default: worker } = exports as unknown as { default: Fetcher };
    const direct = new Caller({
      ...caller.target,
      fetch: (path, init) =>
        worker.fetch(
          `https://limiter.test${path}`,
          init as RequestInit<RequestInitCfProperties>,
        ) as unknown as Promise<Response>,
    });
    await direct.consume("chat", subject, 5);
    await direct.consume("chat", subject);
    const deniedKeys = async () => {
      const recents = await Promise.all(STATS_NAMES.map((name) => real.LIMITER_STATS.getByName(name).recent(2)));
      return recents.flatMap((recent) => recent.deniedKeys.map(({ item }) => item));
    };
    expect(await deniedKeys()).not.toContain(`chat\ncaller\nuser:${subject.user}`);
    await vi.waitFor(async () => expect(await deniedKeys()).toContain(`chat\ncaller\nuser:${subject.user}`), {
      // Sums of other tests may have been sent a moment ago: the next ones follow ten seconds later.
      timeout: 15_000,
    });
  });

  test.each([
    ["throws", () => Promise.reject(new Error("gone"))],
    [
      "throws at once",
      () => {
        throw new Error("gone");
      },
    ],
    ["never answers", () => new Promise(() => {})],
  ])("changes no decision when it %s, and gets the counts later", async (_, fault) => {
    const name = crypto.randomUUID();
    let isBroken = true;
    const caller = countingTarget({
      RATE_LIMIT_DEADLINE_MS: 600,
      RATE_LIMIT_DENY_CACHE_MS: 20_000,
      LIMITER_STATS: {
        getByName: (object: string) =>
          isBroken ? { add: fault, recent: fault, totals: fault } : real.LIMITER_STATS.getByName(`${name} ${object}`),
      },
    });
    const subject = newSubject();
    const statuses = async () => (await caller.post("/v1/consume", { policy: "chat", subject, cost: 3 })).status;
    expect([await statuses(), await statuses()]).toEqual([200, 429]);
    for (const path of ["/v1/stats", "/metrics"]) {
      const response = await caller.admin(path);
      expect([response.status, response.headers.get("Retry-After")]).toEqual([503, "1"]);
    }
    expect(await statuses()).toBe(429);
    isBroken = false;
    expect(summed(await statsOf(caller))).toMatchObject({
      "chat allowed": 1,
      "chat denied": 1,
      "chat denied_at_edge": 1,
    });
    expect((await statsOf(caller)).denied_keys).toMatchObject([{ key: `user:${subject.user}`, count: 2 }]);
  });

  test("answers an admin only, for one day at most", async () => {
    const caller = countingTarget();
    for (const query of ["?minutes=0", "?minutes=1441", "?minutes=x", "?minutes=", "?minutes=1&minutes=2", "?more=1"]) {
      const response = await caller.admin(`/v1/stats${query}`);
      expect([query, response.status]).toEqual([query, 400]);
      expect((await json<ProblemBody>(response)).errors).toHaveLength(1);
    }
    for (const query of ["", "?minutes=1", "?minutes=1440"])
      expect((await caller.admin(`/v1/stats${query}`)).status).toBe(200);
    for (const path of ["/v1/stats", "/metrics"]) {
      const headers = { Authorization: "Bearer caller-token" };
      expect((await caller.target.fetch(path, { headers })).status).toBe(403);
    }
  });

  test("is optional: without it nothing is counted", async () => {
    const caller = new Caller(workerTarget());
    expect((await caller.consume("chat", newSubject())).allowed).toBe(true);
    for (const path of ["/v1/stats", "/metrics"]) expect((await caller.admin(path)).status).toBe(404);
  });
});

describe("requests by the name of their token, and failed sign-ins,", () => {
  const name = crypto.randomUUID();
  const stats = { getByName: (object: string) => real.LIMITER_STATS.getByName(`${name} ${object}`) };
  const newCounts = () => {
    const config = { policies: new Map(), locationHint: undefined, deadlineMs: 1_000 };
    return new Counts(config, { objects: new StatsObjects(stats, config, realTiming) }, realTiming);
  };

  test("are added up over isolates, in the totals and in the minutes asked for", async () => {
    const [first, second] = [newCounts(), newCounts()];
    first.countRequests("chat-backend", 1);
    first.countRequests("chat-backend", 100);
    first.countFailedSignIn();
    await first.write();
    second.countRequests("chat-backend", 2);
    second.countRequests("prometheus", 1);
    second.countFailedSignIn();
    const signIns = { requests: new Map(Object.entries({ "chat-backend": 103, prometheus: 1 })), failed: 2 };
    expect((await second.totals()).signIns).toEqual(signIns);
    const recent = await second.recent(1_440);
    expect(recent.signIns).toEqual(signIns);
    expect(recent.minutes).toEqual([]);
    await second.write();
    await abortAllDurableObjects();
    expect((await first.totals()).signIns).toEqual(signIns);
    expect((await first.recent(1_440)).signIns).toEqual(signIns);
  });

  test("are shown by /metrics and /v1/stats", async () => {
    const caller = countingTarget({ LIMITER_STATS: stats });
    expect(await (await caller.admin("/metrics")).text()).toContain('limiter_requests_total{token="prometheus"} 1\n');
    expect(await (await caller.admin("/metrics")).text()).toContain("limiter_failed_sign_ins_total 2\n");
    const shown = await statsOf(caller);
    expect(shown.requests).toEqual([
      { token: "chat-backend", count: 103 },
      { token: "LIMITER_ADMIN_TOKENS[0]", count: 3 },
      { token: "prometheus", count: 1 },
    ]);
    expect(shown.failed_sign_ins).toBe(2);
  });

  test("have a bound: names beyond it are counted together", async () => {
    const counts = newCounts();
    for (let i = 0; i < 1_000; i++) counts.countRequests(`token-${i}`, 1);
    const { requests } = (await counts.totals()).signIns ?? noSignIns();
    expect(requests.size).toBe(257);
    expect([...requests.values()].reduce((sum, count) => sum + count)).toBe(1_107);
  });
});

describe("the sums of several isolates", () => {
  const config = { policies: new Map(), locationHint: undefined, deadlineMs: 150 };
  const newName = () => crypto.randomUUID();
  /** An isolate that sends to the object with this number. */
  const isolate = (name: string, object: number, silent: readonly string[] = []) => {
    const timing = { ...realTiming, random: () => object / STATS_NAMES.length };
    const getByName = (own: string) =>
      silent.includes(own)
        ? ({ totals: () => new Promise(() => {}), recent: () => new Promise(() => {}) } as unknown as StatsStub)
        : real.LIMITER_STATS.getByName(`${name} ${own}`);
    return new Counts(config, { objects: new StatsObjects({ getByName }, config, timing) }, timing);
  };

  test("are in several objects, and are added up by whoever reads", async () => {
    const name = newName();
    const isolates = STATS_NAMES.map((_, object) => isolate(name, object));
    for (const counts of isolates) {
      counts.onFailure(new Policy("chat", []));
      await counts.send();
    }
    const each = await Promise.all(STATS_NAMES.map((own) => real.LIMITER_STATS.getByName(`${name} ${own}`).totals()));
    expect(each.map(({ tallies }) => tallies.get("chat"))).toEqual(STATS_NAMES.map(() => ({ error: 1 })));
    const totals = await isolate(name, 0).totals();
    expect(totals.tallies).toEqual(new Map([["chat", { error: STATS_NAMES.length }]]));
    expect(totals.sinceMs).toBe(Math.min(...each.map(({ sinceMs }) => sinceMs)));
    const { minutes } = await isolate(name, 0).recent(2);
    expect(minutes.reduce((sum, { tallies }) => sum + (tallies.get("chat")?.error ?? 0), 0)).toBe(STATS_NAMES.length);
  });

  test("can't be read without one of the objects: a part of a sum would be a counter that goes down", async () => {
    for (const own of STATS_NAMES) {
      const reader = isolate(newName(), 0, [own]);
      await expect(reader.totals()).rejects.toMatchObject({ kind: "unreachable" });
      await expect(reader.recent(1)).rejects.toMatchObject({ kind: "unreachable" });
    }
  });
});

describe("LIMITER_COUNTS", () => {
  const forbidden = { getByName: () => expect.fail("a stats object was called") };

  test("off counts nothing, and asks no object", async () => {
    const caller = countingTarget({ LIMITER_COUNTS: "off", LIMITER_STATS: forbidden });
    expect((await caller.consume("chat", newSubject())).allowed).toBe(true);
    for (const path of ["/v1/stats", "/metrics"]) expect((await caller.admin(path)).status).toBe(404);
  });

  test("analytics writes data points alone, and asks no object", async () => {
    const { LIMITER_ANALYTICS: sink } = env as unknown as { readonly LIMITER_ANALYTICS: AnalyticsEngineDataset };
    const points: unknown[] = [];
    const writeDataPoint = (point: AnalyticsEngineDataPoint) => {
      points.push(point);
      sink.writeDataPoint(point);
    };
    const bindings = {
      ...real,
      LIMITER_COUNTS: "analytics",
      LIMITER_STATS: forbidden,
      LIMITER_ANALYTICS: { writeDataPoint },
    } as unknown as Env;
    const caller = countingTarget(bindings as unknown as Record<string, unknown>);
    for (const path of ["/v1/stats", "/metrics"]) {
      const response = await caller.admin(path);
      expect([response.status, (await json<ProblemBody>(response)).detail]).toEqual([
        404,
        "Counts go to Analytics Engine alone, as LIMITER_COUNTS says. Ask for them there.",
      ]);
    }
    const { counts, limiter } = serviceOf(bindings);
    await limiter.consume(
      readConsume({ policy: "chat", subject: newSubject() }, {}, serviceOf(bindings).config),
      () => {},
    );
    counts?.countRequests("chat-backend", 3);
    counts?.countFailedSignIn();
    await counts?.send();
    expect(points).toEqual([
      { indexes: ["chat"], blobs: ["chat", "", "allowed"], doubles: [1] },
      { indexes: [""], blobs: ["", "chat-backend", "request"], doubles: [3] },
      { indexes: [""], blobs: ["", "", "failed_sign_in"], doubles: [1] },
    ]);
    expect(errors).not.toHaveBeenCalled();
  });

  test("analytics is a mistake without the binding, and so is any other word", async () => {
    for (const [LIMITER_COUNTS, what] of [
      ["analytics", "must not be analytics without LIMITER_ANALYTICS"],
      ["somewhere", "must be objects, analytics or off"],
    ]) {
      const caller = countingTarget({ LIMITER_COUNTS, LIMITER_ANALYTICS: undefined });
      expect((await caller.target.fetch("/healthz", {})).status).toBe(503);
      expect(errors).toHaveBeenLastCalledWith(
        expect.objectContaining({ code: "config_invalid", mistakes: [{ where: "LIMITER_COUNTS", what }] }),
      );
    }
  });
});

test("a later request sends the counts if the runtime has ended the request that was to send them", () => {
  let nowMs = 0;
  let waiting = 0;
  const timing = { now: () => nowMs, random: Math.random, after: () => () => {} };
  const counts = new Counts({ policies: new Map() }, {}, timing);
  const waitingAt = (ms: number) => {
    nowMs = ms;
    counts.onFailure(new Policy("chat", []));
    counts.sendLater(() => void waiting++);
    return waiting;
  };
  expect([0, 1, 12_999, 13_000, 13_001].map(waitingAt)).toEqual([1, 1, 1, 2, 2]);
});

test("each sum that is sent is one data point for each policy, layer and outcome", async () => {
  const points: unknown[] = [];
  const writeDataPoint = (point: unknown) => {
    points.push(point);
    throw new Error("no more than 250");
  };
  const caller = countingTarget({ LIMITER_ANALYTICS: { writeDataPoint } });
  const subject = newSubject();
  await caller.consume("chat", subject);
  await caller.consume("chat", subject);
  expect(summed(await statsOf(caller))).toEqual({ "chat allowed": 2 });
  expect(summed(await statsOf(caller))).toEqual({ "chat allowed": 2 });
  // The second call for the stats has sent the count of the first.
  expect(points).toEqual([
    { indexes: ["chat"], blobs: ["chat", "", "allowed"], doubles: [2] },
    { indexes: [""], blobs: ["", "LIMITER_ADMIN_TOKENS[0]", "request"], doubles: [1] },
  ]);
});
