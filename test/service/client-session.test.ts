import { execFile } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { Limiter } from "../../src/client/index.js";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));
const limiterAt = (url: string, transport: "auto" | "session" = "session") =>
  new Limiter({ url, token: "caller-token", deadlineMs: 30_000, transport, log: () => {} });

/**
 * A proxy in front of the service. `onAnswer` sees each chunk that the service sends after a handshake: with false the
 * chunk is lost, and both connections with it.
 */
async function proxied(onAnswer: (nth: number) => boolean) {
  let connections = 0;
  let answers = 0;
  const proxy = createServer((client) => {
    connections += 1;
    let isOpen = false;
    const upstream = new Socket().connect(Number(new URL(service.url).port), "127.0.0.1");
    client.pipe(upstream);
    upstream.on("data", (chunk) => {
      if (!isOpen || onAnswer(++answers)) client.write(chunk);
      else for (const end of [client, upstream]) end.resetAndDestroy();
      isOpen = true;
    });
    for (const [end, other] of [
      [client, upstream],
      [upstream, client],
    ] as const)
      end.on("error", () => {}).on("close", () => other.destroy());
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => void proxy.close());
  const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  return { url, connections: () => connections };
}

describe("a session that is cut off", () => {
  test("before the answer has arrived: the consume is sent again, and charged once", async () => {
    const { url, connections } = await proxied((nth) => nth > 2);
    const limiter = limiterAt(url);
    const subject = newSubject();
    expect(await limiter.consume({ policy: "chat", subject, cost: 2 })).toMatchObject({
      allowed: true,
      replayed: true,
      limits: [{ used: 2 }, { used: 2 }, { used: 2 }],
    });
    expect(connections()).toBe(3);
    expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    limiter.close();
  });

  test("while its caller hangs up: an admitted consume is given back", async () => {
    const controller = new AbortController();
    const { url } = await proxied((nth) => {
      if (nth === 1) controller.abort("Stop");
      return nth > 1;
    });
    const limiter = limiterAt(url);
    const request = { policy: "jobs", subject: newSubject() };
    const consumed = limiter.consume({ ...request, signal: controller.signal });
    await expect(consumed).rejects.toBe("Stop");
    const key = async () =>
      (await caller.key(`user:${request.subject.user}`)).counters.map((counter) => counter.events);
    // The event is still there, at the cost of 0.
    await expect.poll(async () => (await key()).flat().map(({ cost }) => cost), { timeout: 30_000 }).toContain(0);
    await expect.poll(() => caller.used("jobs", request.subject), { timeout: 30_000 }).toEqual([0, 0, 0]);
    limiter.close();
  });

  test("at random: of many consumes as many are admitted as the limit has room for", async () => {
    const { url, connections } = await proxied(() => Math.random() < 0.7);
    const limiter = limiterAt(url);
    const subject = newSubject();
    const decisions: { allowed: boolean; degraded: boolean }[] = [];
    for (let i = 0; i < 20; i++)
      decisions.push(...(await Promise.all([1, 2].map(() => limiter.consume({ policy: "chat", subject })))));
    expect(decisions.filter(({ degraded }) => degraded)).toEqual([]);
    expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(5);
    expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
    expect(connections()).toBeGreaterThan(1);
    limiter.close();
  });
});

test("a service that was killed and has started again is reached by another session", async () => {
  const data = variables();
  const first = await ServiceProcess.start(data);
  const limiter = limiterAt(first.url);
  const subject = newSubject();
  await limiter.consume({ policy: "chat", subject });
  await first.killAll();
  const asked = limiter.consume({ policy: "chat", subject });
  const second = await ServiceProcess.start({ ...data, PORT: new URL(first.url).port });
  onTestFinished(async () => void (await second.stop()));
  expect(await asked).toMatchObject({ allowed: true, degraded: false, limits: [{ used: 2 }, {}, {}] });
});

test("what is asked at once by many is decided exactly", async () => {
  const limiters = Array.from({ length: 4 }, () => limiterAt(service.url));
  const subject = newSubject();
  const decisions = await Promise.all(
    Array.from({ length: 1_200 }, (_, i) => (limiters[i % 4] as Limiter).consume({ policy: "chat", subject })),
  );
  expect(decisions.filter(({ allowed }) => allowed)).toHaveLength(5);
  expect(decisions.filter(({ degraded }) => degraded)).toHaveLength(0);
  for (const limiter of limiters) limiter.close();
});

/** Makes the package `ws` impossible to import, as where it is not installed. */
const WITHOUT_PACKAGE = `
  import { register } from "node:module";
  register("data:text/javascript," + encodeURIComponent(\`
    export async function resolve(name, context, next) {
      if (name === "ws") throw new Error("not installed");
      return next(name, context);
    }\`));`;

test.each([
  ["with the package ws", [], ""],
  ["with the WebSocket of Node", ["--experimental-websocket"], WITHOUT_PACKAGE],
])("an idle session %s does not keep a Node process alive", async (_, flags, prelude) => {
  const client = JSON.stringify(join(import.meta.dirname, "../../src/client/index.ts"));
  const options = JSON.stringify({ url: service.url, token: "caller-token", transport: "session" });
  const script = `${prelude}
    const { Limiter } = await import(${client});
    const { allowed } = await new Limiter(${options}).check(${JSON.stringify({ policy: "chat", subject: newSubject() })});
    console.log(allowed, await import("ws").then(() => true, () => false));`;
  const args = [...flags, "--import", "tsx", "--input-type=module", "-e", script];
  const { stdout } = await promisify(execFile)("node", args, { timeout: 50_000 });
  expect(stdout.trim()).toBe(`true ${prelude === ""}`);
});
