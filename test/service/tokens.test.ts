import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { makeToken } from "../../src/cli/token/make";
import { ServiceProcess } from "../../tools/service-process";
import { newSubject } from "../behaviour/target";
import { variables } from "./service";
import { RawSession } from "./session";

const ENDS_AT = "2040-01-01T00:00:00.000Z";

describe("npm start with digests alone", async () => {
  const backend = makeToken({ name: "backend", role: "caller" });
  const ending = makeToken({ name: "ending", role: "caller", until: ENDS_AT });
  const limited = makeToken({ name: "limited", role: "caller", policies: ["chat"] });
  const worker = makeToken({ name: "worker", role: "caller" });
  const onCall = makeToken({ name: "on-call", role: "admin" });
  const lines = [backend, ending, limited, worker, onCall].map(({ line }) => line).join(",");
  const tokens = { LIMITER_TOKENS: "", LIMITER_ADMIN_TOKENS: "", LIMITER_TOKEN_DIGESTS: lines };
  const service = await ServiceProcess.start(variables(tokens), { args: ["--test-clock"] });
  afterAll(async () => void (await service.stop()));

  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
  const moveTo = (now: string) =>
    service.fetch("/test/clock", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ now }),
    });
  const check = (policy = "chat") => ({ op: "check", policy, subject: newSubject() });

  test("takes those tokens, makes none, and says which token its commands need", async () => {
    expect((await service.fetch("/v1/policies", { headers: bearer(backend.token) })).status).toBe(200);
    expect((await service.fetch("/v1/policies", { headers: bearer("lim_other") })).status).toBe(401);
    expect(existsSync(resolve(import.meta.dirname, "../../.dev.vars"))).toBe(false);
    expect(service.output).toContain("Try it, with a token of LIMITER_TOKEN_DIGESTS in TOKEN:");
    expect(service.output).toContain('-H "Authorization: Bearer $TOKEN"');
    expect(service.output).toContain("Its admin token is on-call of LIMITER_TOKEN_DIGESTS.");
  });

  test("a session is told a 403 for a policy that its token may not use, as that request's result", async () => {
    const session = await RawSession.open(service.url, {}, ["exact-limiter.v1", `bearer.${limited.token}`]);
    const { results = [] } = await session.ask({ requests: [check(), check("upload"), check("nope"), check()] });
    expect(results.map(({ status }) => status)).toEqual([200, 403, 403, 200]);
    session.socket.close();
  });

  test("a session ends with 4401 at the first message after the end of its token, which is not decided", async () => {
    await moveTo(new Date(Date.parse(ENDS_AT) - 1).toISOString());
    const session = await RawSession.open(service.url, bearer(ending.token));
    expect((await session.ask({ requests: [check()] })).results?.map(({ status }) => status)).toEqual([200]);
    await moveTo(ENDS_AT);
    session.send({ id: 7, requests: [check()] });
    expect(await session.closed).toBe(4_401);
    expect(session.answers.filter(({ id }) => id === 7)).toEqual([]);
    await expect(RawSession.open(service.url, bearer(ending.token))).rejects.toThrow("401");
  });

  test("the requests of a session are counted under the name of its token", async () => {
    const session = await RawSession.open(service.url, bearer(worker.token));
    await session.ask({ requests: Array(9).fill(check()) });
    await session.ask({ requests: [check()] });
    session.socket.close();
    const stats = (await (await service.fetch("/v1/stats", { headers: bearer(onCall.token) })).json()) as {
      readonly requests: readonly { readonly token: string; readonly count: number }[];
    };
    expect(stats.requests).toContainEqual({ token: "worker", count: 10 });
  });
});
