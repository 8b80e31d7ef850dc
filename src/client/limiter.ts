import { pause, waitUnlessAborted } from "./attempts.js";
import { Breaker } from "./breaker.js";
import { type Decision, outageDecision, type Release, type Settlement } from "./decision.js";
import { LimiterError, UnauthorizedError, UnavailableError, UnknownPolicyError } from "./errors.js";
import { Exchange, encode, type Op } from "./exchange.js";
import { type Key, keyOf } from "./keys.js";
import { type Log, oncePerMinute } from "./log.js";
import {
  type LimiterOptions,
  type OnError,
  readDeadline,
  readOnError,
  readToken,
  readTransport,
  readUrl,
  type Sleep,
} from "./options.js";
import { decisionIn, isOutage, type PolicySubject, releaseIn, requirePolicies, settlementIn } from "./reading.js";
import type { Reply } from "./reply.js";
import type { CheckRequest, ConsumeRequest, ReadyRequest, ReleaseRequest, SettleRequest } from "./requests.js";
import { idTextOf, textsOf } from "./subject.js";
import { Wait } from "./waiting.js";

/** A check or a consume, as it is sent. */
interface Question extends PolicySubject {
  readonly json: string;
}

const DEADLINE_MS = 2_500;

/**
 * Calls the limiter, over a session or HTTP. Every call is retried until its deadline. That is safe: a consume always has an
 * idempotency key.
 *
 * In an outage `onError` decides checks and consumes. A request that the service refuses, such as a cost above a limit,
 * is no outage: it throws an InvalidRequestError. Calls also throw the reason of the caller's own signal, and a
 * TypeError for an attribute of the subject or an id that can't be used.
 */
export class Limiter {
  readonly #exchange: Exchange;
  readonly #onError: OnError;
  readonly #log: Log;
  readonly #sleep: Sleep;
  readonly #breaker: Breaker<Question>;

  /**
   * @throws TypeError for an invalid `url`, `token`, `onError` or `transport`, RangeError for an invalid deadline.
   */
  constructor({ url, token, deadlineMs = DEADLINE_MS, onError = "deny", ...options }: LimiterOptions) {
    const { transport = "auto", fetch, log, sleep = pause } = options;
    this.#exchange = new Exchange({
      url: readUrl(url),
      token: readToken(token),
      deadlineMs: readDeadline(deadlineMs),
      transport: readTransport(transport, fetch !== undefined),
      // Looked up at each call, so that the global `fetch` can be replaced later.
      fetch: fetch ?? ((url, init) => globalThis.fetch(url, init)),
    });
    this.#onError = readOnError(onError);
    this.#log = oncePerMinute(log);
    this.#sleep = sleep;
    this.#breaker = new Breaker({
      probe: (question) => this.#ask("check", question),
      probeNeutrally: () => this.#getPolicies([]),
      deadlineMs,
      onOpen: (error) =>
        this.#log(`The limiter does not answer: "${onError}" is decided at once until it does.`, error),
      onClose: () => this.#log("The limiter answers again."),
      identityOf: ({ policy, subject }) => JSON.stringify([policy, Object.entries(subject).sort()]),
    });
  }

  /**
   * Checks that the service can decide. Call it when the application starts, to find a wrong configuration before the
   * first request does.
   * @throws UnauthorizedError if the token is refused, UnknownPolicyError that names the policies that are not in
   * force, UnavailableError if the service does not answer.
   */
  async ready({ policies = [], signal }: ReadyRequest = {}): Promise<void> {
    await this.#breaker.observeNeutral(() => this.#getPolicies(policies, signal));
  }

  /**
   * Decides, and records the cost if every limit of every layer admits it. If `signal` ends the call and there is no
   * `idempotencyKey`, nobody can use the admission: the client gives it back in the background, within one more
   * deadline.
   */
  async consume({ idempotencyKey, waitUpToMs = 0, ...request }: ConsumeRequest): Promise<Decision> {
    const key = keyOf(idempotencyKey);
    const wait = waitUpToMs === 0 ? undefined : new Wait(waitUpToMs);
    // Ends: each pause takes a second or more of the wait.
    for (;;) {
      const decision = await this.#decide("consume", request, key);
      const pauseMs = wait?.nextPauseMs(decision);
      if (pauseMs === undefined) return decision;
      // The denial has charged nothing, so there is nothing to give back if the pause is cancelled.
      key.isSent = false;
      const { signal } = request;
      const slept = this.#sleep(pauseMs, signal).finally(() => signal?.throwIfAborted());
      await waitUnlessAborted(signal, slept, () => {});
    }
  }

  /** Decides, and records nothing. */
  async check(request: CheckRequest): Promise<Decision> {
    return this.#decide("check", request);
  }

  /**
   * Corrects the cost of an earlier consume: the real cost once it is known, 0 to give it back. Safe to repeat. It is
   * sent until its deadline, even if `signal` ends the wait or is aborted already.
   * @throws UnknownDecisionError, UnauthorizedError, UnavailableError
   */
  async settle({ signal, policy, subject, id, cost }: SettleRequest): Promise<Settlement> {
    const change = { policy, subject: textsOf(subject), id: idTextOf("id", id), cost };
    return this.#change("settle", change, signal, (reply) => settlementIn(reply, change));
  }

  /**
   * Ends an earlier consume for concurrent limits. Safe to repeat. It is sent until its deadline, even if `signal` ends
   * the wait or is aborted already.
   * @throws UnknownDecisionError, UnauthorizedError, UnavailableError. Concurrent limits then count the consume until
   * its window has passed.
   */
  async release({ signal, policy, subject, id }: ReleaseRequest): Promise<Release> {
    const change = { policy, subject: textsOf(subject), id: idTextOf("id", id) };
    return this.#change("release", change, signal, (reply) => releaseIn(reply, change));
  }

  /**
   * Ends the session once all calls are answered. A later call opens another. A Node process ends without it: an idle
   * session does not keep it alive, or, where the package `ws` is missing, for 5 s.
   */
  close(): void {
    this.#breaker.close();
    this.#exchange.close();
  }

  async #decide(op: "consume" | "check", { signal, ...request }: CheckRequest, key?: Key): Promise<Decision> {
    signal?.throwIfAborted();
    const { policy, cost } = request;
    const subject = textsOf(request.subject);
    const question = { policy, subject, json: encode({ policy, subject, cost }) };
    const outage = this.#breaker.outageFor(question);
    // The service has never seen a new key, so there is nothing to settle.
    if (outage) return this.#decideUnasked(request, outage, key?.isNew ? undefined : key?.text);
    try {
      return await this.#breaker.observe(() => this.#ask(op, question, key, signal), question);
    } catch (error) {
      if (signal?.aborted && key?.isNew && key.isSent) this.#giveBack(question, key);
      if (!(error instanceof LimiterError) || !isOutage(error)) throw error;
      if (this.#onError !== "throw") this.#log(`${outageText(error, policy)} "${this.#onError}" is decided.`, error);
      // A refused consume was not recorded.
      return this.#decideUnasked(request, error, error instanceof UnavailableError ? key?.text : undefined);
    }
  }

  /** The decision in an outage. `id` is that of a consume that may have been recorded. */
  #decideUnasked(request: CheckRequest, error: LimiterError, id: string | undefined): Decision {
    if (this.#onError === "throw") throw error;
    return outageDecision(this.#onError, request, id, error);
  }

  /**
   * Gives back a consume that its caller has left. Whether it was admitted is asked by its key, with a deadline of its
   * own: the answer to the attempt in flight is not waited for.
   */
  async #giveBack(question: Question, { text, attempts }: Key): Promise<void> {
    const key = { text, attempts, isNew: false };
    const consumed = this.#breaker.observe(() => this.#ask("consume", question, key), question);
    const decision = await consumed.catch((error: unknown) => this.#logMissed("consume", error));
    if (!decision?.allowed || decision.degraded) return;
    const { policy, subject } = question;
    const event = { policy, subject, id: text };
    // Independent: each is tried even if the other fails.
    this.settle({ ...event, cost: 0 }).catch((error: unknown) => this.#logMissed("settle", error));
    this.release(event).catch((error: unknown) => this.#logMissed("release", error));
  }

  #logMissed(op: Op, error: unknown): void {
    this.#log(`A ${op} that nobody waited for has failed.`, error instanceof LimiterError ? error : undefined);
  }

  #ask(op: "consume" | "check", question: Question, key?: Key, signal?: AbortSignal): Promise<Decision> {
    return this.#exchange.call(op, question.json, key, signal, (reply) => decisionIn(reply, op, question));
  }

  #getPolicies(required: readonly string[], signal?: AbortSignal): Promise<void> {
    return this.#exchange.get("policies", signal, (reply) => requirePolicies(reply, required));
  }

  #change<T>(op: Op, change: object, signal: AbortSignal | undefined, read: (reply: Reply) => T): Promise<T> {
    const json = encode(change);
    const changed = this.#breaker.observe(() => this.#exchange.call(op, json, undefined, undefined, read));
    return waitUnlessAborted(signal, changed, (error) => this.#logMissed(op, error));
  }
}

function outageText(error: LimiterError, policy: string): string {
  if (error instanceof UnauthorizedError) return "The limiter refuses the token.";
  if (error instanceof UnknownPolicyError) return `The limiter has no policy ${JSON.stringify(policy)}.`;
  return "The limiter did not answer.";
}
