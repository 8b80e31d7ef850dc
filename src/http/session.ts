import type { IRequest } from "itty-router";
import { type Env, serviceOf } from "../service";
import { authorize } from "./auth";
import { Problem } from "./problem";

/**
 * Opens a session: the socket ends in a hub near the caller.
 * @throws Problem 503 without tokens, 401, 426.
 */
export async function openSession(request: IRequest, env: Env): Promise<Response> {
  const { tokens, config } = serviceOf(env);
  authorize(request, tokens, "caller");
  if (request.headers.get("Upgrade")?.toLowerCase() !== "websocket")
    throw new Problem(426, "Upgrade Required", "This call opens a WebSocket. Send Upgrade: websocket.", {
      Upgrade: "websocket",
      Connection: "Upgrade",
    });
  if (!env.LIMITER_HUBS) throw new Problem(404, "Not Found", "There are no sessions. Bind LIMITER_HUBS to have them.");
  const colo = (request as { readonly cf?: { readonly colo?: string } }).cf?.colo ?? "local";
  const number = Math.floor(Math.random() * config.hubs);
  const { locationHint } = config;
  const hub = env.LIMITER_HUBS.getByName(`hub:${colo}:${number}`, locationHint === undefined ? {} : { locationHint });
  return hub.fetch(request as unknown as Request);
}
