import { exports } from "cloudflare:workers";
import type worker from "../../src/worker";

const { default: service } = exports as unknown as { readonly default: Pick<typeof worker, "fetch"> & Fetcher };

/** A session of the Worker of this test pool, with its caller token. */
export async function openSession(): Promise<WebSocket> {
  const response = await service.fetch(
    new Request("http://limiter/v1/session", {
      headers: { Upgrade: "websocket", "Sec-WebSocket-Version": "13", Authorization: "Bearer caller-token" },
    }),
  );
  const socket = response.webSocket;
  if (!socket) throw new Error(`no session: ${response.status}`);
  socket.accept();
  return socket;
}
