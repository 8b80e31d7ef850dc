import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, request as send } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { StartFailure } from "../../src/local/failure";

/** One port in front of several servers: each request goes to the next, with its sender's address appended. */
export async function startProxy(targets: readonly URL[], port: number): Promise<{ server: Server; url: string }> {
  let sent = 0;
  const server = createServer((request, response) => {
    const { hostname, port } = targets[sent++ % targets.length] as URL;
    const { method, url: path, socket } = request;
    const forwardedFor = [request.headers["x-forwarded-for"], socket.remoteAddress].filter(Boolean).join(", ");
    const headers = { ...endToEnd(request.headers), "x-forwarded-for": forwardedFor };
    // A connection each: a kept one that its server is just closing would lose a message.
    const passedOn = send({ hostname, port, method, path, headers, agent: false });
    passedOn.on("response", (answer) => {
      response.writeHead(answer.statusCode as number, endToEnd(answer.headers));
      // Either side may go away in mid-answer, and the other is told by the end of its connection.
      pipeline(answer, response).catch(() => {});
    });
    // A server may go away before it has read the request, or after.
    const fail = () => (response.headersSent ? response.destroy() : response.writeHead(502).end());
    passedOn.on("error", fail);
    pipeline(request, passedOn).catch(() => {});
    response.on("close", () => passedOn.destroy());
  });
  try {
    await once(server.listen(port, "127.0.0.1"), "listening");
  } catch (error) {
    throw new StartFailure(`Port ${port} can't be used (${(error as NodeJS.ErrnoException).code}): set PORT.`);
  }
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** Without what concerns one connection only. */
function endToEnd({ connection, "keep-alive": _, ...headers }: IncomingHttpHeaders): IncomingHttpHeaders {
  for (const name of connection?.toLowerCase().split(/\s*,\s*/) ?? []) delete headers[name];
  return headers;
}
