import { once } from "node:events";
import { WebSocket } from "ws";
import { broken, type Line, timed } from "./line";
import { newSubject, type Policy, type Service } from "./service";

const LONGEST_MS = 10_000;

interface Results {
  readonly results?: readonly { readonly status: number }[];
}

/** Opens a session. @throws Error if the service refuses it. */
export async function openSession({ url, token }: Service): Promise<WebSocket> {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/v1/session`, {
    headers: { Authorization: `Bearer ${token}` },
    perMessageDeflate: false,
    handshakeTimeout: LONGEST_MS,
  });
  await once(socket, "open");
  // A close follows each error.
  socket.on("error", () => {});
  return socket;
}

/** The next message. @throws Error if there is none in time. */
export async function nextMessage(socket: WebSocket): Promise<string> {
  const [data] = await once(socket, "message", { signal: AbortSignal.timeout(LONGEST_MS) });
  return String(data);
}

/** A session: opened, asked for one decision, pinged. */
export async function session(service: Service, policy: Policy): Promise<Line[]> {
  const what = "a session";
  const times: number[] = [];
  const measure = async <T>(work: () => Promise<T>): Promise<T> => {
    const startMs = performance.now();
    const result = await work();
    times.push(performance.now() - startMs);
    return result;
  };
  try {
    service.requests++;
    const socket = await measure(() => openSession(service));
    const requests = [{ op: "consume", policy: policy.name, subject: newSubject(policy) }];
    const ask = (text: string) =>
      measure(() => {
        socket.send(text);
        return nextMessage(socket);
      });
    // The first message creates the objects of the keys.
    await ask(JSON.stringify({ id: 0, requests }));
    const checks = requests.map((request) => ({ ...request, op: "check" }));
    const { results } = JSON.parse(await ask(JSON.stringify({ id: 1, requests: checks }))) as Results;
    const pong = await ask("ping");
    socket.close();
    const status = results?.[0]?.status;
    if (status !== 200 || pong !== "pong") return [broken(what, `${status}, ${pong}`, "200, pong")];
  } catch (error) {
    return [broken(what, String(error), "opens, and answers")];
  }
  const [open = 0, , message = 0, ping = 0] = times;
  return [
    timed("a session, opened", open, 500),
    timed("a message of a session, keys known", message, 150),
    timed("a ping", ping, 100),
  ];
}
