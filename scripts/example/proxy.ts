import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, request as send } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";
import { StartFailure } from "../../src/local/failure";

/** Starts a proxy in front of several servers. Each request goes to the next one, with its sender's address appended. */
export async function startProxy(targets: readonly URL[], port: number): Promise<{ server: Server; url: string }> {
  let sent = 0;
  const server = createServer((request, response) => {
    const { hostname, port } = targets[sent++ % targets.length] as URL;
    const { method, url: path, socket } = request;
    const forwardedFor = [request.headers["x-forwarded-for"], socket.remoteAddress].filter(Boolean).join(", ");
    const headers = { ...endToEnd(request.headers), "x-forwarded-for": forwardedFor };
    // A connection for each request: a kept connection that its server is just closing would lose a message.
    const forwarded = send({ hostname, port, method, path, headers, agent: false });
    forwarded.on("response", (answer) => {
      response.writeHead(answer.statusCode as number, endToEnd(answer.headers));
      // If one side goes away during the answer, the end of the connection tells the other.
      pipeline(answer, response).catch(() => {});
    });
    // The server may go away before or after it has read the request.
    const fail = () => (response.headersSent ? response.destroy() : response.writeHead(502).end());
    forwarded.on("error", fail);
    pipeline(request, forwarded).catch(() => {});
    response.on("close", () => forwarded.destroy());
  });
  try {
    await once(server.listen(port, "127.0.0.1"), "listening");
  } catch (error) {
    throw new StartFailure(
      `Port ${port} can't be used (${(error as NodeJS.ErrnoException).code}). Set PORT to another.`,
    );
  }
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** The headers without those that concern one connection only. */
function endToEnd({ connection, "keep-alive": _, ...headers }: IncomingHttpHeaders): IncomingHttpHeaders {
  for (const name of connection?.toLowerCase().split(/\s*,\s*/) ?? []) delete headers[name];
  return headers;
}
