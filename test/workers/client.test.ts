import { expect, onTestFinished, test, vi } from "vitest";
import { Limiter } from "../../src/client/index.js";
import { newSubject } from "../behaviour/target";
import { workerTarget } from "./target";

test("the client runs on workerd, over any function like fetch", async () => {
  const target = workerTarget();
  const limiter = new Limiter({
    url: "https://limiter.test",
    token: target.callerToken,
    deadlineMs: 30_000,
    fetch: (url, init) => target.fetch(new URL(url).pathname, init),
  });
  const request = { policy: "chat", subject: newSubject() };
  const { allowed, id = "" } = await limiter.consume({ ...request, cost: 5 });
  expect([allowed, id]).toEqual([true, expect.stringMatching(/^[0-9a-f]{32}$/)]);
  expect(await limiter.consume(request)).toMatchObject({ allowed: false, degraded: false });
  expect(await limiter.settle({ ...request, id, cost: 1 })).toMatchObject({ cost: 1, limits: [{ used: 1 }, {}, {}] });
  expect(await limiter.check(request)).toMatchObject({ allowed: true, limits: [{ remaining: 4 }, {}, {}] });
});

test("the client goes by HTTP on workerd, where a WebSocket ends with its request", async () => {
  const target = workerTarget();
  const paths: string[] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    paths.push(new URL(url).pathname);
    return target.fetch(new URL(url).pathname, init);
  });
  const openSocket = vi.fn();
  vi.stubGlobal("WebSocket", openSocket);
  onTestFinished(() => void vi.unstubAllGlobals());
  const limiter = new Limiter({ url: "https://limiter.test", token: target.callerToken, deadlineMs: 30_000 });
  expect(await limiter.check({ policy: "chat", subject: newSubject() })).toMatchObject({ degraded: false });
  expect(paths).toEqual(["/v1/check"]);
  expect(openSocket).not.toHaveBeenCalled();
});
