import type { IRequest } from "itty-router";
import { callWithin } from "../objects/deadline";
import { inJurisdiction } from "../objects/jurisdiction";
import { realTiming } from "../objects/timing";
import { throwUnreachable } from "../objects/unreachable";
import { type Env, type HubStub, type Service, serviceOf } from "../service";
import { authorize, sessionTokenOf } from "./auth";
import { Problem } from "./problem";

/** The only version of WebSocket that there is (RFC 6455). */
const VERSION = "13";

/** Where sessions end if the runtime does not say where the caller is. */
const LOCAL = "local";

/**
 * Opens a session: the socket ends in a hub of the caller's location. Takes the token itself, since a subprotocol may have it.
 * @throws Problem 503 without tokens, 401, 403, 426, 429; Refusal `unreachable`.
 */
export async function openSession(request: IRequest, env: Env): Promise<Response> {
  const service = serviceOf(env);
  const { config } = service;
  const { headers } = request;
  await authorize(sessionTokenOf(headers).token, headers, service, "caller");
  const isUpgrade = headers.get("Upgrade")?.toLowerCase() === "websocket";
  if (!isUpgrade || headers.get("Sec-WebSocket-Version") !== VERSION)
    throw new Problem(
      426,
      "Upgrade Required",
      `This call opens a WebSocket. Send Upgrade: websocket, version ${VERSION}.`,
      {
        Upgrade: "websocket",
        Connection: "Upgrade",
        "Sec-WebSocket-Version": VERSION,
      },
    );
  const hubs = env.LIMITER_HUBS;
  if (!hubs) throw new Problem(404, "Not Found", "There are no sessions. Bind LIMITER_HUBS to have them.");
  const colo = (request as { readonly cf?: { readonly colo?: string } }).cf?.colo ?? LOCAL;
  const number = Math.floor(Math.random() * config.hubs);
  // A hub that was reset starts again with the next call, and to open a session is safe to repeat.
  const open = () => hubOf({ hubs, config }, colo, number).fetch(request as unknown as Request);
  return callWithin(config.deadlineMs, open, realTiming).catch(throwUnreachable);
}

/** Ends the sessions of a service that runs on one machine. */
export async function endLocalSessions({ LIMITER_HUBS: hubs }: Env, { config }: Service): Promise<void> {
  if (!hubs) return;
  const numbers = Array.from({ length: config.hubs }, (_, number) => number);
  await Promise.all(numbers.map((number) => hubOf({ hubs, config }, LOCAL, number).endSessions()));
}

function hubOf(
  { hubs, config }: { readonly hubs: NonNullable<Env["LIMITER_HUBS"]>; readonly config: Service["config"] },
  colo: string,
  number: number,
): HubStub {
  const { locationHint, jurisdiction } = config;
  return inJurisdiction(hubs, jurisdiction).getByName(
    `hub:${colo}:${number}`,
    locationHint === undefined ? {} : { locationHint },
  );
}
