import type { Log } from "./log.js";
import type { Fetch } from "./reply.js";

export interface LimiterOptions {
  /** Where the service is, with the path that it is mounted at, if any: `https://limiter.example`. */
  readonly url: string;
  /** A caller token. */
  readonly token: string;
  /** How long a call may take, all its tries together; 2500 when left out, more than twice what the service allows itself. */
  readonly deadlineMs?: number | undefined;
  /**
   * What is decided in an outage: nobody answers within the deadline, the service fails (5xx), refuses the token, or does
   * not know the policy. `deny` when left out.
   */
  readonly onError?: "deny" | "allow" | undefined;
  /**
   * Calls that are made while a request is under way travel together in the next one, up to 100: many more of them a
   * second, each a little later. False when left out.
   */
  readonly batch?: boolean | undefined;
  /** In place of the global `fetch`: `(url, init) => env.LIMITER.fetch(url, init)` for a service binding. */
  readonly fetch?: Fetch | undefined;
  /**
   * Is told of outages, of what is wrong with the configuration, and of a settle or a release that failed when nobody
   * waited for it any more; the same thing once a minute. `console.error` when left out.
   */
  readonly log?: Log | undefined;
}

/** A timer of more rings at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** @throws TypeError for a URL at which no service can be. */
export function readUrl(text: string): string {
  const { href, protocol, username, password, search, hash } = parseUrl(text);
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError("url must begin with http:// or https://");
  if (username !== "" || password !== "")
    throw new TypeError("url must have no user and no password: fetch refuses such a URL");
  if (search !== "" || hash !== "") throw new TypeError("url must have no query and no fragment");
  return href.replace(/\/+$/, "");
}

/** @throws TypeError without the text: the runtime's own error carries it, and a password may stand in it. */
function parseUrl(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {}
  if (!url) throw new TypeError("url is not a URL: use https://HOST or http://HOST:PORT");
  return url;
}

/** @throws TypeError for a token that is missing, or that no header can carry. It is told nothing of what the token is. */
export function readToken(token: unknown): string {
  if (typeof token !== "string" || token.trim() === "") throw new TypeError("token is missing or empty");
  if (!/^[\x21-\x7e]+$/.test(token.trim()))
    throw new TypeError("token must be made of visible ASCII characters, without spaces");
  return token.trim();
}

/** @throws RangeError for a deadline that no timer can keep. */
export function readDeadline(ms: number): number {
  if (ms > 0 && ms <= LONGEST_TIMER_MS) return ms;
  throw new RangeError(`deadlineMs must be above 0 and at most ${LONGEST_TIMER_MS}, not ${ms}`);
}

/** @throws TypeError for anything but the two words: a mistake in them must not open what they guard. */
export function readOnError(word: string): "deny" | "allow" {
  if (word === "deny" || word === "allow") return word;
  throw new TypeError(`onError must be "deny" or "allow", not ${JSON.stringify(word)}`);
}
