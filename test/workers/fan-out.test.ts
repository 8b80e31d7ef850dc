import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Env } from "../../src/edge/service";
import { handle } from "../../src/http/app";
import { Caller, json, newSubject, type ProblemBody, type Target } from "../behaviour/target";
import { workerTarget } from "./target";

const real = (env as unknown as Env).LIMITER_OBJECTS;

type Method = "check" | "consume" | "undo" | "inspect" | "forget";

interface Call {
  readonly object: string;
  readonly method: Method;
}

/**
 * The real objects, with every call to them counted and, where `fault` says so, lost: connections do not break by
 * themselves on one machine. `lostAnswers`: the object does its work, and its answer does not arrive.
 */
function watched(placement: string, fault: (call: Call) => "none" | "lost" | "lostAnswer" = () => "none") {
  const calls: Call[] = [];
  const options: unknown[] = [];
  const namespace = {
    getByName(object: string, option: unknown) {
      options.push(option);
      const stub = real.getByName(object);
      return new Proxy(stub, {
        get(_, method: Method) {
          return async (...args: unknown[]) => {
            const call = { object, method };
            calls.push(call);
            if (fault(call) === "lost") throw new Error("connection lost: secret detail");
            // biome-ignore lint/complexity/noBannedTypes: any method of the stub, called as it is
            const answer = await (stub[method] as Function)(...args);
            if (fault(call) === "lostAnswer") throw new Error("connection lost: secret detail");
            return answer;
          };
        },
      });
    },
  };
  const target: Target = {
    callerToken: "caller-token",
    adminToken: "admin-token",
    fetch: (path, init) =>
      handle(new Request(`https://limiter.test${path}`, init as RequestInit<RequestInitCfProperties>), environment),
  };
  const environment = {
    ...workerTarget({ LIMITER_PLACEMENT: placement }).env,
    LIMITER_OBJECTS: namespace,
  } as unknown as Env;
  return { caller: new Caller(target), calls, options, environment };
}

const methods = (calls: Call[]) => calls.map(({ method }) => method);

let errors: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  errors = vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => errors.mockRestore());

describe("object calls", () => {
  test("an object a key: one for an anonymous caller, two for a signed-in one, admitted or checked", async () => {
    const { caller, calls } = watched("key");
    const { user, ip } = newSubject();
    await caller.consume("chat", { ip });
    expect(methods(calls.splice(0))).toEqual(["consume"]);
    await caller.consume("chat", { user, ip });
    expect(calls.splice(0)).toEqual([
      { object: `user:${user}`, method: "consume" },
      { object: `ip:${ip}`, method: "consume" },
    ]);
    await caller.check("chat", { user, ip });
    expect(methods(calls.splice(0))).toEqual(["check", "check"]);
  });

  test("an object a key: a denial over two objects costs one more for each that had admitted", async () => {
    const { caller, calls } = watched("key");
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    calls.length = 0;
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect(calls).toEqual([
      { object: `user:${subject.user}`, method: "consume" },
      { object: `ip:${subject.ip}`, method: "consume" },
      { object: `ip:${subject.ip}`, method: "undo" },
    ]);
  });

  test("one shard: one call, also for a denial", async () => {
    const { caller, calls } = watched("shards:1");
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    expect((await caller.consume("chat", subject)).allowed).toBe(false);
    await caller.check("chat", subject);
    expect(calls).toEqual(["consume", "consume", "check"].map((method) => ({ object: "shard:0", method })));
  });

  test("a request that is refused makes none", async () => {
    const { caller, calls } = watched("key");
    await caller.post("/v1/consume", { policy: "chat", subject: { user: "u" } });
    await caller.post("/v1/consume", { policy: "chat", subject: newSubject(), cost: 6 });
    await caller.admin("/v1/keys/nokey");
    expect(calls).toEqual([]);
  });

  test("objects are made near the backend when a hint says where", async () => {
    const hinted = watched("key");
    Object.assign(hinted.environment, { LIMITER_LOCATION_HINT: "weur" });
    await hinted.caller.consume("chat", newSubject());
    expect(hinted.options).toEqual([{ locationHint: "weur" }, { locationHint: "weur" }]);
    const unhinted = watched("key");
    await unhinted.caller.consume("chat", newSubject());
    expect(unhinted.options).toEqual([{}, {}]);
  });
});

describe("an object that cannot be reached", () => {
  const isUser = ({ object }: Call) => object.startsWith("user:");

  test("is a 503 that says nothing from inside, and the log says all", async () => {
    const { caller } = watched("key", () => "lost");
    const user = newSubject().user;
    const answers = [
      await caller.post("/v1/consume", { policy: "chat", subject: newSubject() }),
      await caller.post("/v1/check", { policy: "chat", subject: newSubject() }),
      await caller.admin(`/v1/keys/user:${user}`),
      await caller.admin(`/v1/keys/user:${user}`, { method: "DELETE" }),
    ];
    for (const response of answers) {
      expect([response.status, response.headers.get("Retry-After")]).toEqual([503, "1"]);
      const body = await json<ProblemBody>(response);
      expect(body.status).toBe(503);
      expect(JSON.stringify(body)).not.toContain("secret detail");
    }
    expect(errors).toHaveBeenCalledTimes(answers.length);
    expect(String(errors.mock.calls[0]?.[0]?.error)).toContain("secret detail");
  });

  test("takes back what the other object had admitted", async () => {
    const { caller } = watched("key", (call) => (isUser(call) ? "lost" : "none"));
    const subject = newSubject();
    expect((await caller.post("/v1/consume", { policy: "chat", subject })).status).toBe(503);
    expect((await caller.key(`ip:${subject.ip}`)).counters).toEqual([]);
  });

  test("leaves a charge too many when it is lost on the way back, and still denies truly", async () => {
    const { caller } = watched("key", ({ method }) => (method === "undo" ? "lost" : "none"));
    const subject = newSubject();
    await caller.consume("chat", subject, 5);
    const denied = await caller.consume("chat", subject);
    expect(denied).toMatchObject({ allowed: false, retry_after_seconds: 60 });
    expect(denied.limits.map(({ used }) => used)).toEqual([5, 5, 6]);
    expect(errors).toHaveBeenCalledTimes(1);
  });
});
