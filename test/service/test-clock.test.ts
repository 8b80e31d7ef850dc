import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { bundle } from "../../src/local/bundle";
import { ServiceProcess } from "../../tools/service-process";
import { auditSuite } from "../behaviour/audit";
import { overrideSuite } from "../behaviour/overrides";
import { behaviourSuite } from "../behaviour/suite";
import { Caller, json, newSubject, type ProblemBody } from "../behaviour/target";
import { newDirectory, targetOf, variables } from "./service";

const SOURCES = resolve(import.meta.dirname, "../../src");

async function startWithClock(more: Record<string, string> = {}): Promise<ServiceProcess> {
  return ServiceProcess.start(variables(more), { args: ["--test-clock"] });
}

function post(service: ServiceProcess, path: string, body?: object): Promise<Response> {
  const headers = { "Content-Type": "application/json" };
  return service.fetch(path, { method: "POST", headers, ...(body && { body: JSON.stringify(body) }) });
}

describe.each(["shards:1", "key"])("npm start -- --test-clock, %s", async (placement) => {
  const service = await startWithClock({ LIMITER_PLACEMENT: placement });
  afterAll(async () => void (await service.stop()));
  const target = {
    ...targetOf(service),
    advance: async (ms: number) => void (await post(service, "/test/clock", { advance_seconds: ms / 1_000 })),
  };
  const caller = new Caller(target);
  behaviourSuite(`with a clock that is moved, ${placement}`, target);
  overrideSuite(`with a clock that is moved, ${placement}`, target);
  auditSuite(`with a clock that is moved, ${placement}`, target);

  test("the clock stands still until it is moved", async () => {
    const now = async () => (await json<{ now: string }>(await service.fetch("/test/clock"))).now;
    const before = await now();
    expect(before).toMatch(/T\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(await now()).toBe(before);
    const moved = await json<{ now: string }>(await post(service, "/test/clock", { advance_seconds: 1.5 }));
    expect(Date.parse(moved.now) - Date.parse(before)).toBe(1_500);
    const set = { now: "2031-02-03T04:05:06.789Z" };
    expect(await json(await post(service, "/test/clock", set))).toEqual(set);
    expect(await now()).toBe(set.now);
  });

  test("a reset forgets the counts, which are by the time of the clock", async () => {
    const minutes = async () =>
      (await json<{ minutes: { at: string }[] }>(await caller.admin("/v1/stats?minutes=1"))).minutes;
    await post(service, "/test/clock", { now: "2033-01-01T00:00:30Z" });
    await caller.consume("chat", newSubject());
    expect(await minutes()).toMatchObject([{ at: "2033-01-01T00:00:00.000Z" }]);
    await caller.consume("chat", newSubject());
    await post(service, "/test/reset");
    expect(await minutes()).toEqual([]);
  });

  test("a reset forgets everything, idempotency keys too, and lets the clock go back", async () => {
    const subject = newSubject();
    const send = async () =>
      json(await caller.post("/v1/consume", { policy: "chat", subject, cost: 5 }, { "Idempotency-Key": "k" }));
    await post(service, "/test/clock", { now: "2032-01-01T00:00:00Z" });
    expect(await send()).toMatchObject({ allowed: true, replayed: false });
    expect(await send()).toMatchObject({ allowed: true, replayed: true });
    const back = await post(service, "/test/clock", { now: "2031-12-31T23:59:59Z" });
    expect([back.status, (await json<ProblemBody>(back)).errors]).toEqual([
      400,
      [{ pointer: "/now", detail: expect.stringContaining("reset first") }],
    ]);
    expect((await post(service, "/test/reset")).status).toBe(204);
    const begun = await json<{ now: string }>(await service.fetch("/test/clock"));
    expect(Math.abs(Date.parse(begun.now) - Date.now())).toBeLessThan(60_000);
    expect((await post(service, "/test/clock", { now: "2031-12-31T23:59:59Z" })).status).toBe(200);
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
    expect(await send()).toMatchObject({ allowed: true, replayed: false });
    await target.advance(59_999);
    expect(await caller.check("chat", subject)).toMatchObject({ allowed: false, retry_after_seconds: 1 });
    await target.advance(1);
    expect(await caller.check("chat", subject)).toMatchObject({ allowed: true });
  });

  test("while the clock stands still, a repeated denial shows what others have consumed since", async () => {
    const { user, ip } = newSubject();
    await caller.consume("chat", { user, ip }, 5);
    const denied = async () => (await caller.consume("chat", { user, ip })).limits.map(({ used }) => used);
    expect([await denied(), await denied()]).toEqual([
      [5, 5, 5],
      [5, 5, 5],
    ]);
    for (let i = 0; i < 5; i++) await caller.consume("chat", { user: `${user}-${i}`, ip }, 5);
    expect(await denied()).toEqual([5, 5, 30]);
  });

  test("a reset forgets overrides", async () => {
    const subject = newSubject();
    const path = `/v1/keys/user:${subject.user}/override`;
    const headers = { Authorization: "Bearer admin-token", "Content-Type": "application/json" };
    const ban = JSON.stringify({ kind: "ban", reason: "a test", expires_in_seconds: 86_400 });
    expect((await service.fetch(path, { method: "PUT", headers, body: ban })).status).toBe(200);
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    await post(service, "/test/reset");
    expect((await caller.consume("chat", subject)).allowed).toBe(true);
    expect((await caller.key(`user:${subject.user}`)).override).toBeNull();
  });

  test("a reset forgets orders and denials, and the clock can go back although orders were recorded", async () => {
    const { user, ip } = newSubject();
    const path = `/v1/keys/user:${user}`;
    await post(service, "/test/clock", { now: "2034-01-01T00:00:00Z" });
    expect((await caller.admin(path, { method: "DELETE" })).status).toBe(204);
    expect(await json(await caller.admin("/v1/audit"))).toMatchObject({
      orders: [{ at: "2034-01-01T00:00:00.000Z", key: `user:${user}` }],
    });
    await caller.consume("chat", { user, ip }, 5);
    await caller.consume("chat", { user, ip });
    const at = "2034-01-01T00:00:00.000Z";
    expect(await json(await caller.admin(`${path}?denials=1`))).toMatchObject({ denials: [{ at }] });
    await post(service, "/test/reset");
    const { now } = await json<{ now: string }>(await service.fetch("/test/clock"));
    expect(await json(await caller.admin(`${path}?denials=1`))).toMatchObject({ denials: [], denials_since: now });
    expect(await json(await caller.admin("/v1/audit"))).toEqual({ orders: [], next: null });
    expect(await json(await caller.admin("/v1/overrides"))).toEqual({ overrides: [], unknown: [], next: null });
  });

  test.each([
    ["an empty object", {}, ""],
    ["both fields", { advance_seconds: 1, now: "2040-01-01T00:00:00Z" }, ""],
    ["a step back", { advance_seconds: -1 }, "/advance_seconds"],
    ["a text", { advance_seconds: "60" }, "/advance_seconds"],
    ["a step too far", { advance_seconds: 1e300 }, "/advance_seconds"],
    ["an invalid instant", { now: "tomorrow" }, "/now"],
    ["an unknown field", { advance_minutes: 1 }, "/advance_minutes"],
  ])("%s does not move the clock", async (_, body, pointer) => {
    const before = await (await service.fetch("/test/clock")).text();
    const response = await post(service, "/test/clock", body);
    const { errors } = await json<ProblemBody>(response);
    expect([response.status, errors?.map((error) => error.pointer)]).toEqual([400, expect.arrayContaining([pointer])]);
    expect(await (await service.fetch("/test/clock")).text()).toBe(before);
  });
});

test("counters begin empty, in a directory that is deleted when the service ends", async () => {
  const parent = newDirectory();
  const service = await startWithClock({ LIMITER_DATA_DIR: parent });
  const directory = /keeps its counters in (\S+)\. Try/.exec(service.output)?.[1] ?? "";
  expect([directory.startsWith(parent), existsSync(directory)]).toEqual([true, true]);
  await service.stop();
  expect(existsSync(directory)).toBe(false);
});

test("an unknown argument is refused, with the name of the known argument", async () => {
  const { code, output } = await ServiceProcess.failing(variables(), { args: ["--clock"] });
  expect([code, output.includes("--test-clock")]).toEqual([1, true]);
});

describe("the deployed Worker", () => {
  test("has no clock for tests in its bundle", async () => {
    expect(await bundle(resolve(SOURCES, "test-clock/worker.ts"))).toContain("/test/clock");
    expect(await bundle(resolve(SOURCES, "worker.ts"))).not.toContain("/test/");
  });

  test("answers 404 to calls that move the clock", async () => {
    const service = await ServiceProcess.start(variables());
    const caller = new Caller(targetOf(service));
    for (const path of ["/test/clock", "/test/reset"])
      expect((await caller.admin(path, { method: "POST" })).status).toBe(404);
    await service.stop();
  });
});
