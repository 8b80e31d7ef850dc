import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { HubObject } from "../../src/hub/hub";
import type worker from "../../src/worker";

const { default: service } = exports as unknown as { readonly default: Pick<typeof worker, "fetch"> & Fetcher };

const hubs = (env as unknown as { readonly LIMITER_HUBS: DurableObjectNamespace<HubObject> }).LIMITER_HUBS;

async function openSession(): Promise<WebSocket> {
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

test("a token that is not in force any more ends the session with 4401, and nothing of the message is decided", async () => {
  const socket = await openSession();
  const hub = hubs.getByName("hub:local:0");
  // As after a deploy that took the token away: the hub starts anew, and finds the socket with its attachment.
  await runInDurableObject(hub, (_, state) =>
    state.getWebSockets()[0]?.serializeAttachment({ token: "no digest in force" }),
  );
  const answers: unknown[] = [];
  socket.addEventListener("message", ({ data }) => answers.push(data));
  const closed = new Promise<number>((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)));
  socket.send(
    JSON.stringify({ id: 1, requests: [{ op: "check", policy: "chat", subject: { user: "u", ip: "10.0.0.1" } }] }),
  );
  expect([await closed, answers]).toEqual([4_401, []]);
});
