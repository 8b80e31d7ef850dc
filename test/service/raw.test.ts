import { request } from "node:http";
import { afterAll, describe, expect, test } from "vitest";
import { bytesOf, type RawRequest, requestTo, setHeader } from "../../scripts/fuzz/request";
import { type Exchange, exchange } from "../../scripts/fuzz/wire";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));

/** Sends a raw request, which no well-behaved client would send. */
function send(method: string, path: string, headers: Record<string, string>, body = ""): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(service.url);
    const sent = request({ hostname, port, method, path, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk)).on("end", () => resolve([response.statusCode ?? 0, text]));
    });
    sent.on("error", reject).end(body);
  });
}

test.each(["x:99999", "x:8a", "[::1", "1.2.3.999"])("a Host header of %j is a 400", async (host) => {
  const [status, body] = await send("GET", "/healthz", { Host: host });
  expect([status, JSON.parse(body)]).toMatchObject([400, { status: 400 }]);
});

test("a HEAD with a body is answered like a HEAD without", async () => {
  expect(await send("HEAD", "/healthz", { "Content-Length": "3" }, "abc")).toEqual([200, ""]);
  expect(await send("HEAD", "/v1/consume", { "Transfer-Encoding": "chunked" }, "abc")).toEqual([405, ""]);
});

describe("on one connection,", () => {
  const caller = new Caller(targetOf(service));
  const health = requestTo("GET", "/healthz");
  const consume = (subject: object) => requestTo("POST", "/v1/consume", { policy: "chat", subject }, "caller-token");
  const sendBytes = (...parts: Buffer[]): Promise<Exchange> =>
    exchange(new URL(service.url), { parts, ending: "end" }, 10_000);
  const framed = (request: RawRequest, headers: [string, string][], body: Buffer | string): Buffer => {
    const { headers: others } = request;
    return bytesOf({ ...request, framing: "none", headers: [...others, ...headers], body: Buffer.from(body) });
  };
  const statuses = ({ answers }: Exchange) => answers.map(({ status }) => status);

  test("a body with both framing headers is a 400, and what follows is the next request", async () => {
    const subject = newSubject();
    const request = consume(subject);
    const { length } = request.body;
    const inChunks = `${length.toString(16)}\r\n${request.body}\r\n0\r\n\r\n`;
    for (const announced of [length, inChunks.length, 4]) {
      const both: [string, string][] = [
        ["Content-Length", String(announced)],
        ["Transfer-Encoding", "chunked"],
      ];
      expect(statuses(await sendBytes(framed(request, both, inChunks), bytesOf(health)))).toEqual([400, 200]);
      expect(statuses(await sendBytes(framed(request, both.reverse(), inChunks), bytesOf(health)))).toEqual([400, 200]);
    }
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });

  test.each<[string, [string, string][], (body: string) => string]>([
    ["that ends before its length", [["Content-Length", "500"]], (body) => body],
    ["whose last chunk is missing", [["Transfer-Encoding", "chunked"]], (body) => `fff\r\n${body}`],
    ["whose chunk is malformed", [["Transfer-Encoding", "chunked"]], (body) => `x\r\n${body}\r\n0\r\n\r\n`],
  ])("a body %s is a 400, and is not logged as a fault", async (_, headers, make) => {
    const subject = newSubject();
    const request = consume(subject);
    const { answers } = await sendBytes(framed(request, headers, make(String(request.body))));
    expect(answers.map(({ status, body }) => [status, JSON.parse(body)])).toMatchObject([[400, { status: 400 }]]);
    expect(service.output).not.toContain("a request failed");
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });

  test.each<[string, [string, string][]]>([
    [
      "repeated",
      [
        ["Content-Length", "5"],
        ["Content-Length", "5"],
      ],
    ],
    ["negative", [["Content-Length", "-1"]]],
    ["in another coding", [["Transfer-Encoding", "gzip, chunked"]]],
  ])("a body length that is %s ends the connection, and nothing is counted", async (_, headers) => {
    const subject = newSubject();
    const request = consume(subject);
    const { answers } = await sendBytes(framed(request, headers, request.body), bytesOf(consume(subject)));
    expect(answers.map(({ headers }) => headers.get("connection"))).toEqual(["close"]);
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });

  test("a repeated header has neither of the two values", async () => {
    const subject = newSubject();
    const twice = (name: string, ...values: string[]) => {
      const request = consume(subject);
      setHeader(request, name, ...values);
      return bytesOf(request);
    };
    const { answers } = await sendBytes(
      twice("Authorization", "Bearer caller-token", "Bearer admin-token"),
      twice("Idempotency-Key", "a", "b"),
      twice("Content-Type", "application/json", "text/plain"),
    );
    expect(answers.map(({ status }) => status)).toEqual([401, 400, 415]);
    expect(await caller.used("chat", subject)).toEqual([0, 0, 0]);
  });

  test("headers of more than 128 KiB are refused unread", async () => {
    const request = consume(newSubject());
    request.headers.push(["X-Filler", "a".repeat(129 * 1_024)]);
    expect(statuses(await sendBytes(bytesOf(request)))).toEqual([431]);
  });
});
