import { randomBytes } from "node:crypto";

/** A limit as `GET /v1/policies` has it. */
interface Limit {
  readonly limit: number;
  readonly window_seconds: number;
}

export interface Policy {
  readonly name: string;
  readonly layers: readonly {
    readonly by: readonly string[];
    readonly mode: "live" | "shadow";
    readonly limits: readonly Limit[];
  }[];
}

export type Subject = Readonly<Record<string, string>>;

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly ms: number;
}

/** The longest time for an answer. Then the call counts as one that failed. */
const LONGEST_MS = 10_000;

/** The service as a caller reaches it from outside. */
export class Service {
  /** How many requests were sent. */
  requests = 0;

  constructor(
    readonly url: string,
    readonly token: string,
  ) {}

  get(path: string): Promise<Answer> {
    return this.#ask(path, { headers: { Authorization: `Bearer ${this.token}` } });
  }

  post(path: string, body: unknown): Promise<Answer> {
    return this.#ask(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  async #ask(path: string, init: RequestInit): Promise<Answer> {
    this.requests++;
    const startMs = performance.now();
    const response = await fetch(this.url + path, { ...init, signal: AbortSignal.timeout(LONGEST_MS) });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
    return { status: response.status, body: isJson ? JSON.parse(text) : text, ms: performance.now() - startMs };
  }
}

/** A subject that nobody has asked about: every attribute that the policy counts by, with values made up. */
export function newSubject({ layers }: Policy): Subject {
  const attributes = [...new Set(layers.flatMap(({ by }) => by))];
  return Object.fromEntries(
    attributes.map((name) => [name, name === "ip" ? newAddress() : `smoke-${randomBytes(8).toString("hex")}`]),
  );
}

/** An IPv6 address of a network of its own, of those that are kept for documentation. */
function newAddress(): string {
  const hex = randomBytes(4).toString("hex");
  return `2001:db8:${hex.slice(0, 4)}:${hex.slice(4)}::1`;
}

/** The least and the most that a policy may admit to one subject in so many seconds, if enough is asked for. */
export function admittedWithin({ layers }: Policy, seconds: number): { least: number; most: number } {
  const limits = layers.filter(({ mode }) => mode === "live").flatMap(({ limits }) => limits);
  return {
    least: Math.min(...limits.map(({ limit }) => limit)),
    // So many windows are needed to cover the time.
    most: Math.min(...limits.map(({ limit, window_seconds: window }) => limit * (Math.floor(seconds / window) + 1))),
  };
}
