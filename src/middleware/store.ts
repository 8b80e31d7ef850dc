import type { AsyncLocalStorage } from "node:async_hooks";
import { InvalidRequestError, LimiterError, type LimiterOptions, type Log } from "../client/index.js";
import { oncePerMinute } from "../client/log.js";
import { isWorker } from "../client/socket.js";
import { InlineLimit, type InlineQuestion } from "./inline-limit.js";

export interface ExactStoreOptions extends Pick<LimiterOptions, "url" | "token" | "deadlineMs" | "fetch" | "log"> {
  /**
   * The decision in an outage. `throw`: the error goes to the library, whose own options decide. `deny`: the limit is
   * used up. `allow`: the request passes and is not counted. Default: `throw`.
   */
  readonly onError?: OnError | undefined;
  /**
   * Stands before every key. Limits with the same prefix count together. Default: the limit and the seconds of its
   * window, such as `5/60:`.
   */
  readonly prefix?: string | undefined;
}

type OnError = "throw" | "deny" | "allow";

/** What the store reads from the options of the library. */
export interface StoreSettings {
  readonly windowMs: number;
  readonly limit: number | ((...args: never[]) => unknown);
  readonly skipFailedRequests?: boolean;
  readonly skipSuccessfulRequests?: boolean;
}

/** The hits in the window. At `resetTime` there are none if nobody else hits; a denied hit fits then. */
export interface Hits {
  totalHits: number;
  resetTime: Date;
}

/** A hit. It has an id once it was admitted. */
interface Hit {
  readonly key: string;
  id?: string | undefined;
}

/** The largest limit of the service. */
const LARGEST_LIMIT = 1_000_000_000;

/**
 * A store for `express-rate-limit` and for `hono-rate-limiter`: exact sliding windows over all processes, one call a
 * request. The service needs RATE_LIMIT_INLINE=1.
 */
export class ExactStore {
  /** A hit in one process counts in all. */
  readonly localKeys = false;
  prefix: string;
  readonly #calls: InlineLimit;
  readonly #onError: OnError;
  readonly #log: Log;
  readonly #hasPrefix: boolean;
  #limit = LARGEST_LIMIT;
  #windowSeconds = 60;
  /** The hit of each request, if hits may have to be given back. The library names only the key. */
  #hits: AsyncLocalStorage<Hit> | undefined;

  /** @throws TypeError for an invalid `url`, `token` or `onError`, RangeError for an invalid deadline. */
  constructor({ onError = "throw", prefix, log, ...options }: ExactStoreOptions) {
    if (!["throw", "deny", "allow"].includes(onError))
      throw new TypeError(`onError must be "throw", "deny" or "allow", not ${JSON.stringify(onError)}`);
    this.#onError = onError;
    this.#log = oncePerMinute(log);
    this.#calls = new InlineLimit({ ...options, log: this.#log });
    this.#hasPrefix = prefix !== undefined;
    this.prefix = prefix ?? "";
  }

  /** Called by the library with its options. */
  init({ windowMs, limit, skipFailedRequests, skipSuccessfulRequests }: StoreSettings): void {
    this.#windowSeconds = Math.max(1, Math.ceil(windowMs / 1_000));
    // The library calls a function after the hit: the hit is then counted without a limit, and the library denies.
    const isKnown = typeof limit === "number" && limit !== Number.POSITIVE_INFINITY;
    if (isKnown) this.#limit = Math.floor(limit);
    if (!this.#hasPrefix) this.prefix = `${isKnown ? this.#limit : "any"}/${this.#windowSeconds}:`;
    if (skipFailedRequests || skipSuccessfulRequests) this.#hits ??= newContext();
  }

  /** Counts a hit if the limit admits it. The answer to a denied hit is above the limit. */
  increment(key: string): Promise<Hits> {
    const hit: Hit = { key };
    // Not within an `await`: only then does the function that calls this one keep it.
    this.#hits?.enterWith(hit);
    return this.#count(hit);
  }

  /** Gives back the hit of this request, if it was admitted. Never rejects: the library does not expect it. */
  async decrement(key: string): Promise<void> {
    const hit = this.#hits?.getStore();
    if (hit?.key !== key) return this.#log("A hit was not given back: there is no way to tell which one is meant.");
    if (hit.id === undefined) return;
    try {
      await this.#calls.settle(await this.#questionOf(key), hit.id, 0);
    } catch (error) {
      // A hit that has left the window is unknown.
      if (error instanceof LimiterError && !isUnknown(error)) this.#log("A hit could not be given back.", error);
    }
  }

  /** The hits in the window; undefined if there are none. */
  async get(key: string): Promise<Hits | undefined> {
    const question = await this.#questionOf(key);
    try {
      const { state } = await this.#calls.check(question);
      return state && state.used > 0 ? hitsOf(state.used, state.reset_seconds) : undefined;
    } catch (error) {
      return this.#withoutDecision(error, question);
    }
  }

  /** Forgets the hits of a key. */
  async resetKey(key: string): Promise<void> {
    await this.#calls.forget((await this.#questionOf(key)).key);
  }

  async #count(hit: Hit): Promise<Hits> {
    const question = await this.#questionOf(hit.key);
    const { limit, windowSeconds } = question;
    // The service has no limit of 0.
    if (limit < 1) return hitsOf(1, windowSeconds);
    try {
      const { allowed, id, retryAfterSeconds, state } = await this.#calls.consume(question);
      if (!allowed) return hitsOf(limit + 1, retryAfterSeconds ?? 1);
      hit.id = id;
      return hitsOf(state?.used ?? 1, state?.reset_seconds ?? windowSeconds);
    } catch (error) {
      return this.#withoutDecision(error, question) ?? hitsOf(1, windowSeconds);
    }
  }

  /** The answer if there is no decision; undefined if the request passes. A refused limit is no outage: it denies. */
  #withoutDecision(error: unknown, { limit, windowSeconds }: InlineQuestion): Hits | undefined {
    if (!(error instanceof LimiterError)) throw error;
    const isRefused = error instanceof InvalidRequestError && !isUnknown(error);
    if (!isRefused && this.#onError === "throw") throw error;
    this.#log(isRefused ? "The limiter refuses this limit: it denies." : "The limiter did not answer.", error);
    if (isRefused) return hitsOf(limit + 1 || LARGEST_LIMIT, windowSeconds);
    return this.#onError === "deny" ? hitsOf(limit + 1, 1) : undefined;
  }

  async #questionOf(key: string): Promise<InlineQuestion> {
    return { key: await nameOf(this.prefix + key), limit: this.#limit, windowSeconds: this.#windowSeconds };
  }
}

/** What was asked for does not exist. */
function isUnknown(error: LimiterError): boolean {
  return error instanceof InvalidRequestError && error.status === 404;
}

function hitsOf(totalHits: number, resetSeconds: number): Hits {
  return { totalHits, resetTime: new Date(Date.now() + 1_000 * resetSeconds) };
}

/** The key, or its digest if the service would refuse the key: it takes at most 256 bytes of text. */
async function nameOf(key: string): Promise<string> {
  if (/^[!-~]([ -~]{0,248}[!-~])?$/.test(key)) return `key:${key}`;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  return `sha256:${Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Undefined on Workers, whose contexts can't be entered. Not imported: other runtimes may not have the module. */
function newContext(): AsyncLocalStorage<Hit> | undefined {
  if (isWorker()) return undefined;
  type Hooks = { readonly AsyncLocalStorage: new () => AsyncLocalStorage<Hit> };
  const { process } = globalThis as {
    readonly process?: { readonly getBuiltinModule?: (name: string) => Hooks | undefined };
  };
  const hooks = process?.getBuiltinModule?.("node:async_hooks");
  return hooks && new hooks.AsyncLocalStorage();
}
