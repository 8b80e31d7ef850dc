import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { startProxy } from "../../scripts/example/proxy";

test.each(["GET", "POST"])("a server that closes the connection after reading a %s is a 502", async (method) => {
  const server = createServer((request) => request.resume().on("end", () => request.socket.destroy()));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const target = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const proxy = await startProxy([target], 0);
  onTestFinished(() => void [server, proxy.server].map((one) => one.close().closeAllConnections()));
  const answer = await fetch(proxy.url, { method, ...(method === "POST" && { body: "text" }) });
  expect(answer.status).toBe(502);
});
