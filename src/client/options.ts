import type { Log } from "./log.js";
import type { Fetch } from "./reply.js";
import { isWorker } from "./socket.js";

export interface LimiterOptions {
  /** The URL of the service, with the path that it is mounted at, if any: `https://limiter.example`. */
  readonly url: string;
  /** A caller token. */
  readonly token: string;
  /**
   * The deadline of a call, for all its attempts together. Default: 2,500 ms, more than twice the deadline of the
   * service.
   */
  readonly deadlineMs?: number | undefined;
  /**
   * The decision in an outage: no answer within the deadline, only a 5xx, the token is refused, or the policy is
   * unknown. `throw` throws the error instead. Default: `deny`.
   */
  readonly onError?: OnError | undefined;
  /**
   * How calls are sent. `session`: over one WebSocket, those of the same turn of the event loop together. `http`: as a
   * request each. `auto`: by a session, and by HTTP where no session can be had: that is tried again after a minute.
   * Default: `auto`; on Workers and with an own `fetch` that is `http`. On Workers `session` works in a Durable Object
   * alone.
   */
  readonly transport?: Transport | undefined;
  /** Replaces the global `fetch`: `(url, init) => env.LIMITER.fetch(url, init)` for a service binding. */
  readonly fetch?: Fetch | undefined;
  /**
   * Logs outages, mistakes in the configuration, and failures of background calls, each message at most once a minute.
   * Default: `console.error`.
   */
  readonly log?: Log | undefined;
  /**
   * Makes the pauses of `waitUpToMs`, each until it is over or the signal is aborted. Default: a timer. In tests, that
   * of the limiter for tests moves its clock instead.
   */
  readonly sleep?: Sleep | undefined;
}

export type OnError = "deny" | "allow" | "throw";

export type Sleep = (ms: number, signal?: AbortSignal) => Promise<unknown>;

export type Transport = "auto" | "http" | "session";

/** A longer timer fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** @throws TypeError for a URL that can't be a service's. */
export function readUrl(text: string): string {
  const { href, protocol, username, password, search, hash } = parseUrl(text);
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError("url must begin with http:// or https://");
  if (username !== "" || password !== "")
    throw new TypeError("url must have no user and no password: fetch refuses such a URL");
  if (search !== "" || hash !== "") throw new TypeError("url must have no query and no fragment");
  return href.replace(/\/+$/, "");
}

/** @throws TypeError without the text, which may have a password. The runtime's own error has the text. */
function parseUrl(text: string): URL {
  if (URL.canParse(text)) return new URL(text);
  throw new TypeError("url is not a URL: use https://HOST or http://HOST:PORT");
}

/**
 * @throws TypeError for a token that is missing or can't be sent in a header. The message does not contain the token.
 */
export function readToken(token: unknown): string {
  if (typeof token !== "string" || token.trim() === "") throw new TypeError("token is missing or empty");
  if (!/^[\x21-\x7e]+$/.test(token.trim()))
    throw new TypeError("token must be made of visible ASCII characters, without spaces");
  return token.trim();
}

/** @throws RangeError for a deadline that is too long for a timer, or not positive. */
export function readDeadline(ms: number): number {
  if (ms > 0 && ms <= LONGEST_TIMER_MS) return ms;
  throw new RangeError(`deadlineMs must be above 0 and at most ${LONGEST_TIMER_MS}, not ${ms}`);
}

/** @throws RangeError for a wait that is too long for a timer, negative, or no number. */
export function readWait(ms: number): number {
  if (typeof ms === "number" && ms >= 0 && ms <= LONGEST_TIMER_MS) return ms;
  throw new RangeError(`waitUpToMs must be from 0 to ${LONGEST_TIMER_MS}, not ${ms}`);
}

/** @throws TypeError for any other value: a typo must not admit requests in an outage. */
export function readOnError(word: string): OnError {
  if (word === "deny" || word === "allow" || word === "throw") return word;
  throw new TypeError(`onError must be "deny", "allow" or "throw", not ${JSON.stringify(word)}`);
}

/**
 * The transport to use. An own `fetch`, such as that of a service binding, may reach what no WebSocket does. On Workers
 * requests can't share a WebSocket.
 * @throws TypeError for any other value.
 */
export function readTransport(word: string, hasOwnFetch: boolean): Transport {
  if (word === "auto") return hasOwnFetch || isWorker() ? "http" : "auto";
  if (word === "http" || word === "session") return word;
  throw new TypeError(`transport must be "auto", "http" or "session", not ${JSON.stringify(word)}`);
}
