import { afterAll, expect, test } from "vitest";
import { bytesOf, type RawRequest } from "../../scripts/fuzz/request";
import { exchange } from "../../scripts/fuzz/wire";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

const service = await ServiceProcess.start(variables({ LIMITER_GATE: "hops=1,user=X-User-Id" }));
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));

type Headers = [name: string, value: string][];

function gateCall(target: string, headers: Headers, method = "GET"): RawRequest {
  const own: Headers = [
    ["Host", "limiter"],
    ["X-Limiter-Token", "caller-token"],
  ];
  return { method, target, version: "HTTP/1.1", headers: [...own, ...headers], body: Buffer.alloc(0), framing: "none" };
}

/** The statuses of requests that are sent on one connection, as bytes that no client would send. */
async function statusesOf(...requests: RawRequest[]): Promise<number[]> {
  const parts = requests.map((request) => bytesOf(request));
  const { answers } = await exchange(new URL(service.url), { parts, ending: "end" }, 10_000);
  return answers.map(({ status }) => status);
}

test.each(["GET", "POST"])("no path of a visitor leads a %s to another call", async (method) => {
  const { ip } = newSubject();
  const to = (path: string) => statusesOf(gateCall(`/v1/gate/chat${path}`, [["X-Forwarded-For", ip]], method));
  for (const path of [
    "/../../../healthz",
    "/%2e%2e/.%2e/%2E%2e/healthz",
    "/..\\..\\..\\openapi.json",
    "\\..\\..\\..\\healthz",
    "/../../../",
    "/../..",
  ])
    expect([path, await to(path)]).toEqual([path, [400]]);
  expect(await caller.used("chat", { ip })).toEqual([0, 0, 0]);
  for (const path of ["", "/", "/a/../b", "/a//b/?c=/../d", "/..%2f..%2fhealthz"])
    expect([path, await to(path)]).toEqual([path, [200]]);
});

test("a WebSocket that a visitor opens passes and is refused as any request", async () => {
  const { ip } = newSubject();
  const upgrade = gateCall("/v1/gate/chat", [
    ["X-Forwarded-For", ip],
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
    ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
  ]);
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) statuses.push(...(await statusesOf(upgrade)));
  expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);
});

test("a body is left unread, and what follows it is the next request", async () => {
  const { ip } = newSubject();
  const withBody: RawRequest = {
    ...gateCall("/v1/gate/chat", [["X-Forwarded-For", ip]], "POST"),
    body: Buffer.from("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
  };
  const framings: RawRequest["framing"][] = ["length", "chunked"];
  for (const framing of framings)
    expect(await statusesOf({ ...withBody, framing }, gateCall("/v1/gate/nope", [["X-Forwarded-For", ip]]))).toEqual([
      200, 404,
    ]);
});

test("a visitor's header beside the proxy's gives the visitor nothing", async () => {
  const { ip, user } = newSubject();
  const forged: Headers = [["X-Forwarded-For", "192.0.2.1"]];
  expect(await statusesOf(gateCall("/v1/gate/chat", [...forged, ["X-Forwarded-For", ip]]))).toEqual([200]);
  expect(await caller.used("chat", { ip })).toEqual([1, 1, 1]);
  const own: Headers = [
    ["X-Forwarded-For", ip],
    ["X-User-Id", user],
  ];
  expect(await statusesOf(gateCall("/v1/gate/chat", [["X-User-Id", "evil"], ...own]))).toEqual([400]);
  expect(await statusesOf(gateCall("/v1/gate/chat", [["X-Limiter-Token", "caller-token-2"], ...own]))).toEqual([401]);
  expect(await caller.used("chat", { ip })).toEqual([1, 1, 1]);
});

test("a user in UTF-8 is the user of a consume, and any other bytes are a 400", async () => {
  const { ip, user } = newSubject();
  const name = `${user} é€`;
  // The bytes of a header are those of the text in Latin-1.
  const asUtf8 = Buffer.from(name).toString("latin1");
  const call = (value: string) =>
    statusesOf(
      gateCall("/v1/gate/chat", [
        ["X-Forwarded-For", ip],
        ["X-User-Id", value],
      ]),
    );
  expect(await call(asUtf8)).toEqual([200]);
  expect(await caller.used("chat", { user: name, ip })).toEqual([1, 1, 1]);
  expect(await call("\xe9")).toEqual([400]);
});
