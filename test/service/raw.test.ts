import { request } from "node:http";
import { afterAll, expect, test } from "vitest";
import { ServiceProcess } from "../../scripts/local/process";
import { variables } from "./service";

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));

/** A request as no well-behaved client sends it. */
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

test("a HEAD with a body is answered as one without", async () => {
  expect(await send("HEAD", "/healthz", { "Content-Length": "3" }, "abc")).toEqual([200, ""]);
  expect(await send("HEAD", "/v1/consume", { "Transfer-Encoding": "chunked" }, "abc")).toEqual([405, ""]);
});
