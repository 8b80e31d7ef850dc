import { randomBytes } from "node:crypto";
import { Limiter } from "../client/index.js";
import { LimiterProcess } from "./process.js";

export interface StartOptions {
  /** Variables of the service, as README.md lists them: `{ RATE_LIMIT_CHAT_PER_MIN: "3" }`. */
  readonly variables?: Readonly<Record<string, string>> | undefined;
}

/** A real limiter on this machine. Its clock stands still until it is moved. */
export interface TestLimiter {
  readonly url: string;
  readonly token: string;
  readonly adminToken: string;
  /** Its waits move the clock. */
  readonly client: Limiter;
  /** Moves the clock instead: for `new Limiter({ ..., sleep: limiter.sleep })`, whose `waitUpToMs` then takes no time. */
  readonly sleep: (ms: number) => Promise<void>;
  /** Moves the clock forward. */
  advance(by: { readonly seconds?: number; readonly ms?: number }): Promise<void>;
  /**
   * Sets the clock.
   * @throws Error for a time before a decision, since time never goes back. A reset allows it.
   */
  setTime(time: Date): Promise<void>;
  now(): Promise<Date>;
  /** Forgets all counters. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

/** Long, so that no test fails on a busy machine. */
const DEADLINE_MS = 30_000;

/**
 * Starts a limiter for tests: the real service on the real runtime, in a process that ends with this one.
 *
 * It is the limiter of this package, which needs the package miniflare, or the one that the command in
 * EXACT_LIMITER_COMMAND starts, such as `npm --prefix ../exact-limiter start -- --test-clock`.
 * @throws Error with the output of the service, if it does not start.
 */
export async function startLimiter({ variables = {} }: StartOptions = {}): Promise<TestLimiter> {
  const token = randomBytes(16).toString("hex");
  const adminToken = randomBytes(16).toString("hex");
  const { service, url } = await LimiterProcess.start({
    PORT: "0",
    HOST: "127.0.0.1",
    LIMITER_TOKENS: token,
    LIMITER_ADMIN_TOKENS: adminToken,
    RATE_LIMIT_INLINE: "1",
    ...variables,
  });
  const setClock = (body: object) => call(`${url}/test/clock`, { method: "POST", ...json(body) });
  const sleep = async (ms: number) => void (await setClock({ advance_seconds: ms / 1_000 }));
  const client = new Limiter({ url, token, deadlineMs: DEADLINE_MS, sleep });
  return {
    url,
    token,
    adminToken,
    client,
    sleep,
    async advance({ seconds = 0, ms = 0 }) {
      await sleep(1_000 * seconds + ms);
    },
    async setTime(time) {
      await setClock({ now: time.toISOString() });
    },
    async now() {
      const { now } = JSON.parse(await call(`${url}/test/clock`)) as { now: string };
      return new Date(now);
    },
    async reset() {
      await call(`${url}/test/reset`, { method: "POST" });
    },
    async stop() {
      client.close();
      await service.stop();
    },
  };
}

function json(body: object): RequestInit {
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/** @throws Error with the reply of the service, if it refuses the call. */
async function call(url: string, init?: RequestInit): Promise<string> {
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return text;
}
