import { type Answer, errorOf, type Fetch, send } from "./answer.js";
import { tryWithin } from "./attempts.js";
import { Batches } from "./batches.js";
import {
  type Decision,
  type DecisionBody,
  decisionOf,
  isDecision,
  isRelease,
  isSettlement,
  type Release,
  releaseOf,
  type Settlement,
  settlementOf,
} from "./decision.js";
import { InvalidRequestError, type LimiterError, UnavailableError, UnknownDecisionError } from "./errors.js";

export interface LimiterOptions {
  /** Where the service is, with the path that it is mounted at, if any: `https://limiter.example`. */
  readonly url: string;
  /** A caller token. */
  readonly token: string;
  /** How long a call may take, all its tries together; 2500 when left out, more than twice what the service allows itself. */
  readonly deadlineMs?: number | undefined;
  /** What is decided when the service can't be reached within the deadline; `deny` when left out. */
  readonly onError?: "deny" | "allow" | undefined;
  /**
   * Calls that are made while a request is under way travel together in the next one, up to 100: many more of them a
   * second, each a little later. False when left out.
   */
  readonly batch?: boolean | undefined;
  /** In place of the global `fetch`: `(url, init) => env.LIMITER.fetch(url, init)` for a service binding. */
  readonly fetch?: Fetch | undefined;
}

/** Who is asking, as attributes. One that is undefined, null or blank is absent. */
export type Subject = Readonly<Record<string, string | null | undefined>>;

export interface CheckRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** How much it weighs; 1 when left out. */
  readonly cost?: number | undefined;
  /** Ends the call at once, with its reason. What was sent already may still be counted. */
  readonly signal?: AbortSignal | undefined;
}

export interface ConsumeRequest extends CheckRequest {
  /** Sent again with the same key, it is charged once. 1 to 128 of `A-Z a-z 0-9 . _ ~ : -`; made up when left out. */
  readonly idempotencyKey?: string | undefined;
}

export interface SettleRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** Of the decision to be corrected. */
  readonly id: string;
  /** The real cost; 0 gives all of it back. */
  readonly cost: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ReleaseRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** Of the decision that is over. */
  readonly id: string;
  readonly signal?: AbortSignal | undefined;
}

type Op = "consume" | "check" | "settle" | "release";

interface Key {
  readonly text: string;
  /** Made up for this call. */
  readonly isNew: boolean;
}

const DEADLINE_MS = 2_500;
/** A longer call travels alone: it is refused, or crowds out the others. At most 8 KiB, which no sound call needs. */
const LONGEST_CALL_CHARS = 2_048;
/** A timer of more rings at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * The limiter, asked over HTTP. Every call is tried again until its deadline, and that is safe: a consume always has an
 * idempotency key.
 *
 * Calls throw InvalidRequestError, UnauthorizedError, or the reason of the caller's own signal.
 */
export class Limiter {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #deadlineMs: number;
  readonly #onError: "deny" | "allow";
  readonly #fetch: Fetch;
  readonly #batches: Batches | undefined;

  /**
   * @throws TypeError when `url` is none, or `token` is nothing that a header can carry; RangeError for a deadline that
   * no timer can keep.
   */
  constructor({ url, token, deadlineMs = DEADLINE_MS, onError = "deny", batch = false, fetch }: LimiterOptions) {
    this.#url = new URL(url).href.replace(/\/+$/, "");
    this.#headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    // Throws here what each call would, where nobody looks for it.
    new Headers(this.#headers);
    if (!(deadlineMs > 0 && deadlineMs <= LONGEST_TIMER_MS))
      throw new RangeError(`deadlineMs must be above 0 and at most ${LONGEST_TIMER_MS}, not ${deadlineMs}`);
    this.#deadlineMs = deadlineMs;
    this.#onError = onError;
    // Looked up at each call, so that whoever replaces the global one later is heard.
    this.#fetch = fetch ?? ((url, init) => globalThis.fetch(url, init));
    if (batch) this.#batches = new Batches((body, signal) => this.#post("batch", {}, body, signal));
  }

  /** Decides, and records the cost if every limit of every layer admits it. */
  async consume({ idempotencyKey, ...request }: ConsumeRequest): Promise<Decision> {
    if (idempotencyKey === undefined) return this.#decide("consume", request, { text: newKey(), isNew: true });
    // A header can't carry every string: checked here, with the words that the service has for it.
    if (!/^[\w.~:-]{1,128}$/.test(idempotencyKey)) throw badKey();
    return this.#decide("consume", request, { text: idempotencyKey, isNew: false });
  }

  /** Would it be admitted now? Records nothing. */
  async check(request: CheckRequest): Promise<Decision> {
    return this.#decide("check", request);
  }

  /**
   * Corrects the cost of an earlier consume: the real one once it is known, 0 to give it back. Safe to repeat.
   * @throws UnknownDecisionError, and UnavailableError, since nothing can be assumed.
   */
  async settle({ signal, policy, subject, id, cost }: SettleRequest): Promise<Settlement> {
    return this.#call("settle", { policy, subject, id, cost }, undefined, signal, (answer) => {
      if (answer.status === 200 && isSettlement(answer.body)) return settlementOf(answer.body);
      throw errorOfChange(answer);
    });
  }

  /**
   * Says that what an earlier consume was for is over: limits on what is under way count it no more. Safe to repeat.
   * @throws UnknownDecisionError, and UnavailableError: its place is then held until its window has passed.
   */
  async release({ signal, policy, subject, id }: ReleaseRequest): Promise<Release> {
    return this.#call("release", { policy, subject, id }, undefined, signal, (answer) => {
      if (answer.status === 200 && isRelease(answer.body)) return releaseOf(answer.body);
      throw errorOfChange(answer);
    });
  }

  async #decide(op: "consume" | "check", request: CheckRequest, key?: Key): Promise<Decision> {
    const { signal, policy, subject, cost } = request;
    try {
      return await this.#call(op, { policy, subject, cost }, key, signal, (answer) => {
        const { status, body } = answer;
        const fits = isDecision(body) && (status === 200 || (status === 429 && !body.allowed));
        if (fits) return decisionOf(body, answer.headers);
        throw errorOf(answer);
      });
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      return undecided(this.#onError, request, key?.text, error);
    }
  }

  /** Sends until there is an answer that can be read, or the deadline has passed. */
  #call<T>(
    op: Op,
    body: Readonly<Record<string, unknown>>,
    key: Key | undefined,
    signal: AbortSignal | undefined,
    read: (answer: Answer) => T,
  ): Promise<T> {
    const text = JSON.stringify(body);
    const batches = text.length <= LONGEST_CALL_CHARS ? this.#batches : undefined;
    return tryWithin(this.#deadlineMs, signal, async (signal, nth) => {
      // Of a key that is new, the service is told which try it is: before the first one nobody has sent it.
      const attempt = key?.isNew ? nth : undefined;
      if (batches) return read(await batches.add({ op, ...body, idempotency_key: key?.text, attempt }, signal));
      const headers = {
        ...(key && { "Idempotency-Key": `"${key.text}"` }),
        ...(attempt && { "Idempotency-Attempt": String(attempt) }),
      };
      return read(await this.#post(op, headers, text, signal));
    });
  }

  #post(path: Op | "batch", headers: Record<string, string>, body: string, signal: AbortSignal): Promise<Answer> {
    const init = { method: "POST", headers: { ...this.#headers, ...headers }, body, signal };
    // A redirect would be followed with another method, or with the token to another host.
    return send(this.#fetch, `${this.#url}/v1/${path}`, { ...init, redirect: "manual" });
  }
}

/** Why an earlier consume could not be changed. */
function errorOfChange(answer: Answer): LimiterError {
  const error = errorOf(answer);
  // The other 404 points at the name of a policy that there is not.
  const isUnknown = error instanceof InvalidRequestError && error.status === 404 && error.errors.length === 0;
  return isUnknown ? new UnknownDecisionError(error.detail) : error;
}

/** What stands in for a decision when the service can't be reached. */
function undecided(
  onError: "deny" | "allow",
  { policy, cost = 1 }: CheckRequest,
  key: string | undefined,
  error: UnavailableError,
): Decision {
  const same = { policy, cost, replayed: false, degraded: true, limits: [] };
  if (onError === "allow")
    return decisionOf({ allowed: true, ...(key && { id: key }), ...same, retry_after_seconds: null }, {}, error);
  const problem = {
    type: "about:blank",
    title: "Service Unavailable",
    status: 503,
    detail: "The limiter could not be reached.",
  };
  const denial: DecisionBody = { ...problem, allowed: false, ...same, retry_after_seconds: 1 };
  return decisionOf(denial, { "Retry-After": "1" }, error);
}

function badKey(): InvalidRequestError {
  return new InvalidRequestError(400, "The request has a mistake.", [
    { pointer: "/idempotency_key", detail: "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -" },
  ]);
}

/** Random, by what every runtime has: `randomUUID` is missing on a page that was not served over HTTPS. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
