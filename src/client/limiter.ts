import { waitUnlessAborted } from "./attempts.js";
import { Breaker } from "./breaker.js";
import {
  type Decision,
  decisionOf,
  fieldsOf,
  isDecision,
  isRelease,
  isSettlement,
  outageDecision,
  type Release,
  releaseOf,
  type Settlement,
  settlementOf,
} from "./decision.js";
import {
  InvalidRequestError,
  LimiterError,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
} from "./errors.js";
import { Exchange, type Key, type Op } from "./exchange.js";
import { newKey } from "./keys.js";
import { type Log, oncePerMinute } from "./log.js";
import { type LimiterOptions, readDeadline, readOnError, readToken, readTransport, readUrl } from "./options.js";
import { errorOf, type Reply } from "./reply.js";
import type { CheckRequest, ConsumeRequest, Cost, ReadyRequest, ReleaseRequest, SettleRequest } from "./requests.js";
import { matchSubject, textsOf } from "./subject.js";

/** What every call names. */
interface PolicySubject {
  readonly policy: string;
  readonly subject: Record<string, string | null | undefined>;
}

type Question = PolicySubject & Pick<CheckRequest, "cost">;

const DEADLINE_MS = 2_500;

/**
 * Calls the limiter, over a session or HTTP. Every call is retried until its deadline. That is safe: a consume always has an
 * idempotency key.
 *
 * In an outage `onError` decides checks and consumes. A request that the service refuses, such as a cost above a limit,
 * is no outage: it throws an InvalidRequestError. Calls also throw the reason of the caller's own signal, and a
 * TypeError for an attribute of the subject that can't be used.
 */
export class Limiter {
  readonly #exchange: Exchange;
  readonly #onError: "deny" | "allow";
  readonly #log: Log;
  readonly #breaker: Breaker<Question>;

  /**
   * @throws TypeError for an invalid `url`, `token`, `onError` or `transport`, RangeError for an invalid deadline.
   */
  constructor({ url, token, deadlineMs = DEADLINE_MS, onError = "deny", ...options }: LimiterOptions) {
    const { transport = "auto", fetch, log } = options;
    this.#exchange = new Exchange({
      url: readUrl(url),
      token: readToken(token),
      deadlineMs: readDeadline(deadlineMs),
      transport: readTransport(transport, fetch !== undefined),
      // Looked up at each call, so that the global `fetch` can be replaced later.
      fetch: fetch ?? ((url, init) => globalThis.fetch(url, init)),
    });
    this.#onError = readOnError(onError);
    this.#log = oncePerMinute(log ?? ((...message) => console.error(...message)));
    this.#breaker = new Breaker({
      probe: (question) => this.#ask("check", question),
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
   * @throws UnauthorizedError if the token is refused, InvalidRequestError that names the policies that are not in
   * force, UnavailableError if the service does not answer.
   */
  async ready({ policies = [], signal }: ReadyRequest = {}): Promise<void> {
    const inForce = await this.#breaker.observe(() => this.#exchange.get("policies", signal, policiesIn));
    const unknown = policies.filter((policy) => !inForce.includes(policy));
    if (unknown.length === 0) return;
    const named = unknown.map((policy) => JSON.stringify(policy)).join(", ");
    throw new InvalidRequestError(
      404,
      `These policies are not in force: ${named}. In force are ${inForce.join(", ")}.`,
    );
  }

  /**
   * Decides, and records the cost if every limit of every layer admits it. If `signal` ends the call and there is no
   * `idempotencyKey`, nobody can use the admission: the client gives it back in the background, within one more
   * deadline.
   */
  async consume({ idempotencyKey, ...request }: ConsumeRequest): Promise<Decision> {
    if (idempotencyKey === undefined) return this.#decide("consume", request, { text: newKey(), isNew: true });
    // Not every string fits in a header: checked here, with the error of the service.
    if (!/^[\w.~:-]{1,128}$/.test(idempotencyKey)) throw invalidKey();
    return this.#decide("consume", request, { text: idempotencyKey, isNew: false });
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
    return this.#change("settle", { policy, subject: textsOf(subject), id, cost }, signal, (body) =>
      isSettlement(body) ? settlementOf(body) : undefined,
    );
  }

  /**
   * Ends an earlier consume for concurrent limits. Safe to repeat. It is sent until its deadline, even if `signal` ends
   * the wait or is aborted already.
   * @throws UnknownDecisionError, UnauthorizedError, UnavailableError. Concurrent limits then count the consume until
   * its window has passed.
   */
  async release({ signal, policy, subject, id }: ReleaseRequest): Promise<Release> {
    return this.#change("release", { policy, subject: textsOf(subject), id }, signal, (body) =>
      isRelease(body) ? releaseOf(body) : undefined,
    );
  }

  /**
   * Ends the session once all calls are answered. A later call opens another. A Node process ends without it: an idle
   * session does not keep it alive, or, where the package `ws` is missing, for 5 s.
   */
  close(): void {
    this.#exchange.close();
  }

  async #decide(op: "consume" | "check", { signal, ...request }: CheckRequest, key?: Key): Promise<Decision> {
    signal?.throwIfAborted();
    const { policy, subject, cost } = request;
    const question = { policy, subject: textsOf(subject), cost };
    const outage = this.#breaker.outageFor(question);
    if (outage) return outageDecision(this.#onError, request, key?.text, outage);
    try {
      return await this.#breaker.observe(() => this.#ask(op, question, key, signal), question);
    } catch (error) {
      if (signal?.aborted && key?.isNew && key.isSent) this.#giveBack(question, key.text);
      if (!(error instanceof LimiterError) || !isOutage(error)) throw error;
      this.#log(`${outageText(error, policy)} "${this.#onError}" is decided.`, error);
      return outageDecision(this.#onError, request, key?.text, error);
    }
  }

  /**
   * Gives back a consume that its caller has left. Whether it was admitted is asked by its key, with a deadline of its
   * own: the answer to the attempt in flight is not waited for.
   */
  async #giveBack(question: Question, text: string): Promise<void> {
    const consumed = this.#breaker.observe(() => this.#ask("consume", question, { text, isNew: false }), question);
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
    return this.#exchange.call(op, { ...question }, key, signal, (reply) => {
      const { status, body, headers } = reply;
      if (!isDecision(body) || status !== (op === "consume" && !body.allowed ? 429 : 200)) throw errorOf(reply);
      requireSameRequest(question, body);
      return decisionOf(body, headers);
    });
  }

  #change<T>(
    op: Exclude<Op, "consume" | "check">,
    body: PolicySubject & { readonly id: string; readonly cost?: Cost },
    signal: AbortSignal | undefined,
    read: (body: unknown) => T | undefined,
  ): Promise<T> {
    const changed = this.#breaker.observe(() =>
      this.#exchange.call(op, { ...body }, undefined, undefined, (reply) => {
        const result = reply.status === 200 ? read(reply.body) : undefined;
        if (result === undefined) throw errorOfChange(reply);
        requireSameRequest(body, reply.body);
        return result;
      }),
    );
    return waitUnlessAborted(signal, changed, (error) => this.#logMissed(op, error));
  }
}

/** @throws UnavailableError if the reply is about another policy, key or decision. */
function requireSameRequest({ policy, subject, id }: PolicySubject & { readonly id?: string }, body: unknown): void {
  const reply = fieldsOf(body);
  const isSame = reply.policy === policy && (id === undefined || reply.id === id);
  if (isSame && matchSubject(subject, reply.limits as unknown[])) return;
  throw new UnavailableError("the answer is about another policy, key or decision than the request");
}

/** The service can't decide this request, nor others like it. */
function isOutage(error: LimiterError): boolean {
  if (error instanceof InvalidRequestError) return error.status === 404;
  return error instanceof UnavailableError || error instanceof UnauthorizedError;
}

function outageText(error: LimiterError, policy: string): string {
  if (error instanceof UnauthorizedError) return "The limiter refuses the token.";
  if (error instanceof InvalidRequestError) return `The limiter has no policy ${JSON.stringify(policy)}.`;
  return "The limiter did not answer.";
}

/** The error for a settle or a release. */
function errorOfChange(reply: Reply): LimiterError {
  const error = errorOf(reply);
  // The 404 of an unknown policy has an error that points at its name.
  const isUnknown = error instanceof InvalidRequestError && error.status === 404 && error.errors.length === 0;
  return isUnknown ? new UnknownDecisionError(error.detail) : error;
}

/** The names of the policies in force. */
function policiesIn(reply: Reply): unknown[] {
  const { policies } = fieldsOf(reply.body);
  if (reply.status !== 200 || !Array.isArray(policies)) throw errorOf(reply);
  return policies.map((policy) => fieldsOf(policy).name);
}

function invalidKey(): InvalidRequestError {
  return new InvalidRequestError(400, "The request has a mistake.", [
    { pointer: "/idempotency_key", detail: "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -" },
  ]);
}
