import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";

const CLIENTS = 16;
const USERS = 12;

export interface Asked {
  readonly id: string;
  readonly user: string;
  readonly ip: string;
}

interface Counter {
  readonly events_total: number;
  readonly events: readonly { readonly id: string }[];
}

/** A policy whose limits no load here fills up. */
export const POLICIES = JSON.stringify({
  load: {
    layers: [
      { name: "caller", by: ["user"], limits: ["100000/day"] },
      { name: "ip", by: ["ip"], limits: ["100000/day"] },
    ],
  },
});

/** Clients that consume side by side, each decision over a user and an address. */
export class Load {
  readonly sent: Asked[] = [];
  readonly admitted: Asked[] = [];
  /** What was answered and was no admission. */
  readonly others: string[] = [];
  #isOver = false;
  readonly #answers = new EventEmitter();
  readonly #clients: Promise<unknown>;

  constructor(
    readonly origin: string,
    readonly token: string,
  ) {
    this.#clients = Promise.all(Array.from({ length: CLIENTS }, () => this.#consumeOn()));
  }

  /** Waits until so many more are admitted. */
  async more(count: number): Promise<void> {
    const goal = this.admitted.length + count;
    while (this.admitted.length < goal && this.others.length === 0) await once(this.#answers, "answer");
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#clients;
  }

  async #consumeOn(): Promise<void> {
    while (!this.#isOver) {
      const number = Math.floor(Math.random() * USERS);
      const asked = { id: randomUUID(), user: `u_${number}`, ip: `203.0.113.${number >> 2}` };
      this.sent.push(asked);
      const body = await consume(this.origin, this.token, asked);
      if (body.allowed === true && body.replayed === false) this.admitted.push(asked);
      else this.others.push(JSON.stringify(body));
      this.#answers.emit("answer");
    }
  }
}

export async function consume(
  origin: string,
  token: string,
  { id, user, ip }: Asked,
): Promise<{ allowed?: boolean; replayed?: boolean }> {
  const response = await fetch(`${origin}/v1/consume`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "Idempotency-Key": `"${id}"` },
    body: JSON.stringify({ policy: "load", subject: { user, ip } }),
  });
  return (await response.json()) as { allowed?: boolean; replayed?: boolean };
}

/** The ids of the events that a service has of keys, by key. All of them, or it fails. */
export async function storedIds(origin: string, token: string, keys: Iterable<string>): Promise<Map<string, string[]>> {
  const stored = new Map<string, string[]>();
  for (const key of new Set(keys)) {
    const url = `${origin}/v1/keys/${encodeURIComponent(key)}?events=1000`;
    const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
    const { counters } = (await response.json()) as { counters: Counter[] };
    const [counter] = counters;
    if (counter && counter.events_total > counter.events.length) throw new Error(`${key} has too many events.`);
    stored.set(key, counter?.events.map(({ id }) => id) ?? []);
  }
  return stored;
}

export const keysOf = ({ user, ip }: Asked): string[] => [`user:${user}`, `ip:${ip}`];
