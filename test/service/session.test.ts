import { request } from "node:http";
import { afterAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { ServiceProcess } from "../../tools/service-process";
import { batchSuite } from "../behaviour/batch";
import { concurrentSuite } from "../behaviour/concurrent";
import { costSuite } from "../behaviour/costs";
import { idempotencySuite } from "../behaviour/idempotency";
import { overrideSuite } from "../behaviour/overrides";
import { PATIENT } from "../behaviour/policies";
import { shadowSuite } from "../behaviour/shadow";
import { behaviourSuite } from "../behaviour/suite";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";
import { type Answer, RawSession, sessionTarget } from "./session";

const AUTHORIZED = { Authorization: "Bearer caller-token" };

for (const placement of ["shards:1", "key"]) {
  const service = await ServiceProcess.start(variables({ LIMITER_PLACEMENT: placement, ...PATIENT }));
  afterAll(async () => void (await service.stop()));
  const target = sessionTarget(targetOf(service), await RawSession.open(service.url, AUTHORIZED));
  const name = `a session, ${placement}`;
  behaviourSuite(name, target);
  idempotencySuite(name, target);
  overrideSuite(name, target);
  batchSuite(name, target);
  shadowSuite(name, target);
  concurrentSuite(name, target);
  costSuite(name, target);
}

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));

const open = (headers: Record<string, string> = AUTHORIZED, protocols?: string[]) =>
  RawSession.open(service.url, headers, protocols);
const consume = (subject = newSubject(), more = {}) => ({ op: "consume", policy: "chat", subject, ...more });

/** The status of a request that no library would send. */
function raw(method: string, headers: Record<string, string>): Promise<number | undefined> {
  const { hostname, port } = new URL(service.url);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, method, path: "/v1/session", headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on("upgrade", (response) => resolve(response.statusCode));
    sent.on("error", reject).end();
  });
}

describe("a session is opened", () => {
  test("by a bearer token in the header, without compression and without a subprotocol", async () => {
    const { socket } = await open();
    expect([socket.extensions, socket.protocol]).toEqual(["", ""]);
    socket.close();
  });

  test("by a subprotocol with the token, where headers can't be set", async () => {
    const { socket } = await open({}, ["exact-limiter.v1", "bearer.caller-token"]);
    expect(socket.protocol).toBe("exact-limiter.v1");
    socket.close();
  });

  test("by the header, if both are sent", async () => {
    const { socket } = await open(AUTHORIZED, ["exact-limiter.v1", "bearer.wrong"]);
    expect(socket.protocol).toBe("exact-limiter.v1");
    socket.close();
  });

  test.each([
    ["without a token", {}, []],
    ["with a wrong token", { Authorization: "Bearer wrong" }, []],
    [
      "with a wrong token in the header, whatever subprotocol is offered",
      { Authorization: "Bearer wrong" },
      ["bearer.caller-token"],
    ],
    ["with a wrong token as a subprotocol", {}, ["bearer.wrong"]],
  ] as const)("not %s: 401", async (_, headers, protocols) => {
    const offered = protocols.length > 0 ? ["exact-limiter.v1", ...protocols] : [];
    const socket = new WebSocket(`${service.url.replace("http", "ws")}/v1/session`, offered, { headers });
    const status = await new Promise((resolve) =>
      socket.on("unexpected-response", (_, { statusCode }) => resolve(statusCode)),
    );
    expect(status).toBe(401);
  });

  test("by no other call: they take the token of the Authorization header alone", async () => {
    const headers = { "Sec-WebSocket-Protocol": "exact-limiter.v1, bearer.admin-token" };
    expect((await service.fetch("/v1/policies", { headers })).status).toBe(401);
    expect((await service.fetch("/v1/keys/user:u", { headers })).status).toBe(401);
  });

  test("by no request that does not upgrade: 401 without a token, then 426; and 405 for another method", async () => {
    expect((await service.fetch("/v1/session")).status).toBe(401);
    expect((await service.fetch("/v1/session", { headers: AUTHORIZED })).status).toBe(426);
    const head = await raw("HEAD", { ...AUTHORIZED, Connection: "Upgrade", Upgrade: "websocket" });
    const otherVersion = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "12" };
    expect([head, await raw("GET", { ...AUTHORIZED, ...otherVersion })]).toEqual([426, 426]);
    const post = await service.fetch("/v1/session", { method: "POST" });
    expect([post.status, post.headers.get("Allow")]).toEqual([405, "GET, HEAD"]);
  });
});

describe("a message", () => {
  test("is answered as the batch would be, with the options of a batch", async () => {
    const session = await open();
    const subject = newSubject();
    const requests = [consume(subject, { idempotency_key: `k-${subject.user}` }), { op: "nonsense" }];
    const { results: first } = await session.ask({ requests, headers: true, limits: false });
    const response = await caller.post("/v1/batch", { requests: [requests[0]], headers: true, limits: false });
    const [replay] = ((await response.json()) as Answer).results ?? [];
    expect(first).toMatchObject([{ status: 200, body: { replayed: false } }, { status: 400 }]);
    expect(replay).toMatchObject({ status: 200, body: { replayed: true } });
    expect(Object.keys(first?.[0] ?? {})).toEqual(Object.keys(replay ?? {}));
    expect(Object.keys(first?.[0]?.headers ?? {})).toEqual(Object.keys(replay?.headers ?? {}));
    expect(first?.[0]?.body).not.toHaveProperty("limits");
    session.socket.close();
  });

  test.each([
    ["that is no JSON", "{", null],
    ["that is no object", "[]", null],
    ["without an id", { requests: [consume()] }, null],
    ["with a negative id", { id: -1, requests: [consume()] }, null],
    ["with an id that is no integer", { id: 1.5, requests: [consume()] }, null],
    ["with an id of 2^53", { id: 2 ** 53, requests: [consume()] }, null],
    ["with an unknown field", { id: 2 ** 53 - 1, requests: [consume()], more: 1 }, 2 ** 53 - 1],
    ["with no requests", { id: 0, requests: [] }, 0],
    ["with 101 requests", { id: 0, requests: Array.from({ length: 101 }, () => ({})) }, 0],
  ])("%s is an error, and the session goes on", async (_, message, id) => {
    const session = await open();
    session.send(message as string);
    const answer = await session.until(() => session.answers[0]);
    expect(answer).toMatchObject({ id, error: { type: "about:blank", title: "Bad Request", status: 400 } });
    expect((await session.ask({ requests: [consume()] })).results).toMatchObject([{ status: 200 }]);
    session.socket.close();
  });

  test("that is binary is an error", async () => {
    const session = await open();
    session.socket.send(Buffer.from(JSON.stringify({ id: 1, requests: [consume()] })));
    expect(await session.until(() => session.answers[0])).toMatchObject({ id: null, error: { status: 400 } });
    session.socket.close();
  });

  test("of 65,536 bytes is read, and one byte more ends the session with 1009", async () => {
    const session = await open();
    const subject = newSubject();
    const message = (bytes: number) => {
      const rest = JSON.stringify({ id: 1, requests: [{ ...consume(subject), note: "" }] });
      return JSON.stringify({
        id: 1,
        requests: [{ ...consume(subject), note: "é".repeat(7) + "x".repeat(bytes - rest.length - 14) }],
      });
    };
    expect(Buffer.byteLength(message(65_536))).toBe(65_536);
    session.send(message(65_536));
    expect(await session.until(() => session.answers[0])).toMatchObject({ id: 1, results: [{ status: 400 }] });
    session.send(message(65_537));
    expect(await session.closed).toBe(1_009);
    expect(session.answers).toHaveLength(1);
  });

  test("that comes behind one that was too long is not decided", async () => {
    const session = await open();
    const subject = newSubject();
    session.send("x".repeat(65_537));
    session.send({ id: 1, requests: [consume(subject)] });
    expect(await session.closed).toBe(1_009);
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });
});

test("ping is answered by pong", async () => {
  const session = await open();
  session.send("ping");
  await session.until(() => (session.texts.includes("pong") ? true : undefined));
  session.socket.close();
});

test("a close is answered at once", async () => {
  for (const [isUsed, code] of [
    [false, 1_000],
    [true, 1_000],
    [true, 4_999],
  ] as const) {
    const session = await open();
    if (isUsed) await session.ask({ requests: [consume()] });
    const startMs = performance.now();
    session.socket.close(code);
    expect(await session.closed).toBe(code);
    // A client waits 30 s for a close that is not answered.
    expect(performance.now() - startMs).toBeLessThan(15_000);
  }
});

test("a client that has gone stays charged", async () => {
  const session = await open();
  const subject = newSubject();
  session.send({ id: 1, requests: [consume(subject)] });
  // The answer to a ping says that the message before it has arrived.
  session.send("ping");
  await session.until(() => (session.texts.includes("pong") ? true : undefined));
  session.socket.terminate();
  await expect.poll(() => caller.used("chat", subject), { timeout: 30_000 }).toEqual([1, 1, 1]);
});

test("a service that stops has counted every request that a session was answered", async () => {
  const shared = variables();
  const first = await ServiceProcess.start(shared);
  const session = await RawSession.open(first.url, AUTHORIZED);
  const sending = setInterval(() => session.send({ id: sent++, requests: [consume()] }), 1);
  let sent = 0;
  await session.until(() => session.answers[50]);
  const stopped = first.stop();
  await session.closed;
  clearInterval(sending);
  await stopped;
  const answered = session.answers.filter(({ results }) => results?.[0]?.status === 200).length;
  const again = await ServiceProcess.start(shared);
  const stats = await new Caller(targetOf(again)).admin("/v1/stats");
  const { minutes } = (await stats.json()) as {
    minutes: { counts: { layer: null; outcome: string; count: number }[] }[];
  };
  const counts = minutes.flatMap(({ counts }) => counts).filter(({ outcome }) => outcome === "allowed");
  expect(counts.reduce((sum, { count }) => sum + count, 0)).toBeGreaterThanOrEqual(answered);
  await again.stop();
});

test("sessions and HTTP share the limits, and one id is charged once over both", async () => {
  const [one, other] = [await open(), await open()];
  const subject = newSubject();
  const request = consume(subject, { idempotency_key: `shared-${subject.user}` });
  const sent = await Promise.all([
    ...Array.from({ length: 10 }, () => one.ask({ requests: [request] })),
    ...Array.from({ length: 10 }, () => other.ask({ requests: [request] })),
  ]);
  const bodies = sent.map(({ results }) => results?.[0]?.body as { readonly replayed: boolean });
  expect(bodies.filter(({ replayed }) => !replayed)).toHaveLength(1);
  const many = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? one : other).ask({ requests: [consume(subject)] })),
  );
  expect(many.filter(({ results }) => results?.[0]?.status === 200)).toHaveLength(4);
  expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
  for (const { socket } of [one, other]) socket.close();
});
