import { tryWithin, within } from "../client/attempts.js";
import { Breaker } from "../client/breaker.js";
import { type DecisionBody, fieldsOf, isDecision, isSettlement, type LimitBody } from "../client/decision.js";
import { UnavailableError } from "../client/errors.js";
import type { LimiterOptions, Log } from "../client/index.js";
import { newKey } from "../client/keys.js";
import { readDeadline, readToken, readUrl } from "../client/options.js";
import { errorOf, type Reply, send } from "../client/reply.js";

export type InlineLimitOptions = Pick<LimiterOptions, "url" | "token" | "deadlineMs" | "fetch"> & { readonly log: Log };

/** One key under one limit. */
export interface InlineQuestion {
  readonly key: string;
  /** At most so much in any window. */
  readonly limit: number;
  readonly windowSeconds: number;
}

/** A decision by one inline limit. `state` is undefined if the service admitted the request without its counters. */
export interface InlineDecision {
  readonly allowed: boolean;
  readonly id: string | undefined;
  readonly retryAfterSeconds: number | null;
  readonly state: LimitBody | undefined;
}

const LAYER = "limit";
const DEADLINE_MS = 2_500;

/**
 * Asks the service by limits that the request names. Each call is retried until its deadline, and fails at once while
 * the service does not answer.
 */
export class InlineLimit {
  readonly #url: string;
  readonly #token: string;
  readonly #deadlineMs: number;
  readonly #fetch: NonNullable<LimiterOptions["fetch"]>;
  readonly #breaker: Breaker<InlineQuestion>;

  constructor({ url, token, deadlineMs = DEADLINE_MS, fetch, log }: InlineLimitOptions) {
    this.#url = readUrl(url);
    this.#token = readToken(token);
    this.#deadlineMs = readDeadline(deadlineMs);
    // Looked up at each call, so that the global `fetch` can be replaced later.
    this.#fetch = fetch ?? ((url, init) => globalThis.fetch(url, init));
    this.#breaker = new Breaker({
      probe: (question) => this.#ask("check", question),
      deadlineMs,
      onOpen: (error) => log("The limiter does not answer: calls fail at once until it does.", error),
      onClose: () => log("The limiter answers again."),
      identityOf: ({ key }) => key,
    });
  }

  consume(question: InlineQuestion): Promise<InlineDecision> {
    return this.#observe("consume", question, newKey());
  }

  check(question: InlineQuestion): Promise<InlineDecision> {
    return this.#observe("check", question);
  }

  /** Corrects the cost of an earlier consume. */
  async settle(question: InlineQuestion, id: string, cost: number): Promise<void> {
    const body = { id, cost, layers: layersOf(question) };
    await this.#breaker.observe(() =>
      this.#call("POST", "settle", body, undefined, (reply) => {
        if (reply.status !== 200 || !isSettlement(reply.body)) throw errorOf(reply);
      }),
    );
  }

  /** Forgets a key under all limits. */
  async forget(key: string): Promise<void> {
    await this.#breaker.observe(() =>
      this.#call("DELETE", `keys/${encodeURIComponent(key)}`, undefined, undefined, (reply) => {
        if (reply.status !== 204) throw errorOf(reply);
      }),
    );
  }

  async #observe(op: "consume" | "check", question: InlineQuestion, id?: string): Promise<InlineDecision> {
    const outage = this.#breaker.outageFor(question);
    if (outage) throw outage;
    return this.#breaker.observe(() => this.#ask(op, question, id), question);
  }

  #ask(op: "consume" | "check", question: InlineQuestion, id?: string): Promise<InlineDecision> {
    return this.#call("POST", op, { layers: layersOf(question) }, id, (reply) => {
      const { status, body } = reply;
      if (!isDecision(body) || status !== (op === "consume" && !body.allowed ? 429 : 200)) throw errorOf(reply);
      return decisionOf(question, body);
    });
  }

  #call<T>(
    method: string,
    path: string,
    body: object | undefined,
    id: string | undefined,
    read: (reply: Reply) => T,
  ): Promise<T> {
    return tryWithin(this.#deadlineMs, undefined, (ms, nth) =>
      within(ms, undefined, async (signal) => {
        const headers = {
          Authorization: `Bearer ${this.#token}`,
          ...(body && { "Content-Type": "application/json" }),
          ...(id && { "Idempotency-Key": `"${id}"`, "Idempotency-Attempt": String(nth) }),
        };
        const init = { method, headers, signal, redirect: "manual" as const };
        const url = `${this.#url}/v1/inline/${path}`;
        return read(await send(this.#fetch, url, body ? { ...init, body: JSON.stringify(body) } : init));
      }),
    );
  }
}

function layersOf({ key, limit, windowSeconds }: InlineQuestion): object[] {
  return [{ name: LAYER, key, limits: [`${limit} per ${windowSeconds} seconds`] }];
}

/** @throws UnavailableError if the decision is about another key. */
function decisionOf({ key }: InlineQuestion, body: DecisionBody): InlineDecision {
  const { allowed, id, retry_after_seconds: retryAfterSeconds, limits } = body;
  if (limits.some((limit) => fieldsOf(limit).key !== `inline/${key}`))
    throw new UnavailableError("the answer is about another key than the request");
  return { allowed, id, retryAfterSeconds, state: limits[0] };
}
