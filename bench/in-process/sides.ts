import { WebSocket } from "ws";
import { defineDecide } from "../peers/decide-script";
import { decideFlexibly } from "../peers/flexible";
import type { PeerLimit } from "../peers/server";
import { connectRedis } from "../peers/store";
import type { Settings } from "./settings";

/** Decides about a user, admitted or not. Rejects if there is no decision. */
export type Ask = (user: number) => Promise<unknown>;

/** What a Node backend would use, by name. */
export const SIDES: Readonly<Record<string, (settings: Settings) => Promise<Ask>>> = {
  session: askSessions,
  script: askScript,
  flexible: askFlexible,
};

const addressOf = (user: number) => `10.0.${user >> 8}.${user & 255}`;

/** Requests of a message. The service takes 100, and a message of 65,536 bytes. */
const MOST_REQUESTS = 100;

interface Waiting {
  readonly request: object;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A session that sends the requests of one turn of the event loop together, as a client does. */
class Session {
  readonly #queue: Waiting[] = [];
  readonly #sent = new Map<number, Waiting[]>();
  #lastId = 0;

  private constructor(private readonly socket: WebSocket) {
    socket.on("message", (data) => this.#receive(String(data)));
    socket.on("close", (code) => {
      throw new Error(`The session ended: ${code}`);
    });
  }

  static async open(url: string, token: string): Promise<Session> {
    const socket = new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return new Session(socket);
  }

  ask(request: object): Promise<void> {
    if (this.#queue.length === 0) setImmediate(() => this.#send());
    return new Promise((resolve, reject) => this.#queue.push({ request, resolve, reject }));
  }

  #send(): void {
    while (this.#queue.length > 0) {
      const waiting = this.#queue.splice(0, MOST_REQUESTS);
      const id = ++this.#lastId;
      this.#sent.set(id, waiting);
      this.socket.send(JSON.stringify({ id, requests: waiting.map(({ request }) => request) }));
    }
  }

  #receive(text: string): void {
    const { id, results, error } = JSON.parse(text) as { id: number; results?: { status: number }[]; error?: object };
    if (!results) throw new Error(JSON.stringify(error));
    const waiting = this.#sent.get(id) ?? [];
    this.#sent.delete(id);
    for (const [i, result] of results.entries()) {
      if (result.status === 200 || result.status === 429) waiting[i]?.resolve();
      else waiting[i]?.reject(new Error(JSON.stringify(result)));
    }
  }
}

/**
 * Asks over sessions, one after the other. The driver speaks the protocol itself, because the client of `src/client` sends
 * an idempotency key with every consume.
 */
async function askSessions({ url, token, sessions = 1, workload }: Settings): Promise<Ask> {
  const opened = await Promise.all(
    Array.from({ length: sessions }, () => Session.open(`${url.replace(/^http/, "ws")}/v1/session`, token)),
  );
  const policy = workload === "flood" ? "flood" : "chat";
  let asked = 0;
  return (user) => {
    const request = { op: "consume", policy, subject: { user: `u_${user}`, ip: addressOf(user) } };
    const key = workload === "keyed" ? { idempotency_key: crypto.randomUUID(), attempt: 1 } : {};
    return (opened[asked++ % opened.length] as Session).ask({ ...request, ...key });
  };
}

/** ioredis, with the commands of one turn of the event loop in one pipeline, and one script for all three limits. */
async function askScript({ redisPort, limits: [perMinute, perHour, addressPerMinute] }: Settings): Promise<Ask> {
  const redis = defineDecide(connectRedis(redisPort));
  return (user) => {
    const keys = [`caller:user:u_${user}`, `ip:ip:${addressOf(user)}`];
    const caller = [1, perMinute, 60_000, 1, perHour, 3_600_000];
    return redis.decide(2, ...keys, 1, crypto.randomUUID(), 3, ...caller, 2, addressPerMinute, 60_000);
  };
}

async function askFlexible({ redisPort, limits: [perMinute, perHour, addressPerMinute] }: Settings): Promise<Ask> {
  const decide = decideFlexibly(connectRedis(redisPort));
  return (user) => {
    const [caller, ip] = [`user:u_${user}`, `ip:${addressOf(user)}`];
    const limits: PeerLimit[] = [
      { layer: "caller", key: caller, max: perMinute, windowMs: 60_000 },
      { layer: "caller", key: caller, max: perHour, windowMs: 3_600_000 },
      { layer: "ip", key: ip, max: addressPerMinute, windowMs: 60_000 },
    ];
    return decide("consume", limits, "");
  };
}
