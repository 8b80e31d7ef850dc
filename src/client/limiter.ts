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
import { type Log, oncePerMinute } from "./log.js";
import { type LimiterOptions, readDeadline, readOnError, readToken, readUrl } from "./options.js";
import { errorOf, type Reply } from "./reply.js";
import type { CheckRequest, ConsumeRequest, ReadyRequest, ReleaseRequest, SettleRequest } from "./requests.js";
import { matchSubject, textsOf } from "./subject.js";

/** What every call says: which policy, and who is asking. */
interface PolicySubject {
  readonly policy: string;
  readonly subject: Record<string, string | null | undefined>;
}

type Question = PolicySubject & Pick<CheckRequest, "cost">;

const DEADLINE_MS = 2_500;

/**
 * The limiter, asked over HTTP. Every call is tried again until its deadline, and that is safe: a consume always has an
 * idempotency key.
 *
 * In an outage `onError` decides checks and consumes. A request that the service refuses, such as a cost above a limit, is
 * no outage: it throws an InvalidRequestError. Calls also throw the reason of the caller's own signal, and a TypeError for
 * a subject whose attributes are no ids.
 */
export class Limiter {
  readonly #exchange: Exchange;
  readonly #onError: "deny" | "allow";
  readonly #log: Log;
  readonly #breaker: Breaker<Question>;

  /**
   * @throws TypeError when nothing can ever answer at `url`, when `token` is missing or nothing that a header can carry;
   * RangeError for a deadline that no timer can keep.
   */
  constructor({ url, token, deadlineMs = DEADLINE_MS, onError = "deny", batch = false, fetch, log }: LimiterOptions) {
    this.#exchange = new Exchange({
      url: readUrl(url),
      headers: { Authorization: `Bearer ${readToken(token)}` },
      deadlineMs: readDeadline(deadlineMs),
      isBatching: batch,
      // Looked up at each call, so that whoever replaces the global one later is heard.
      fetch: fetch ?? ((url, init) => globalThis.fetch(url, init)),
    });
    this.#onError = readOnError(onError);
    this.#log = oncePerMinute(log ?? ((...message) => console.error(...message)));
    this.#breaker = new Breaker({
      ask: (question) => this.#ask("check", question),
      deadlineMs,
      onOpen: (error) =>
        this.#log(`The limiter does not answer: "${onError}" is decided at once until it does.`, error),
      onClose: () => this.#log("The limiter answers again."),
      identityOf: ({ policy, subject }) => JSON.stringify([policy, Object.entries(subject).sort()]),
    });
  }

  /**
   * Asks the service whether it can decide: for the start of an application, which learns so what is wrong with its
   * configuration before the first request does.
   * @throws UnauthorizedError when the token is refused, InvalidRequestError that names the policies which are not in
   * force, UnavailableError when nobody answers.
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
   * Decides, and records the cost if every limit of every layer admits it. When `signal` ends the wait and no
   * `idempotencyKey` was given, nobody can use the admission: it is asked for again in the background, for one more
   * deadline, and given back.
   */
  async consume({ idempotencyKey, ...request }: ConsumeRequest): Promise<Decision> {
    if (idempotencyKey === undefined) return this.#decide("consume", request, { text: newKey(), isNew: true });
    // A header can't carry every string: checked here, with the words that the service has for it.
    if (!/^[\w.~:-]{1,128}$/.test(idempotencyKey)) throw invalidKey();
    return this.#decide("consume", request, { text: idempotencyKey, isNew: false });
  }

  /** Would it be admitted now? Records nothing. */
  async check(request: CheckRequest): Promise<Decision> {
    return this.#decide("check", request);
  }

  /**
   * Corrects the cost of an earlier consume: the real one once it is known, 0 to give it back. Safe to repeat. It is sent
   * until its deadline, also when `signal` ends the wait, or is aborted already.
   * @throws UnknownDecisionError, UnauthorizedError, and UnavailableError, since nothing can be assumed.
   */
  async settle({ signal, policy, subject, id, cost }: SettleRequest): Promise<Settlement> {
    return this.#change("settle", { policy, subject: textsOf(subject), id, cost }, signal, (body) =>
      isSettlement(body) ? settlementOf(body) : undefined,
    );
  }

  /**
   * Says that what an earlier consume was for is over: limits on what is under way count it no more. Safe to repeat. It is
   * sent until its deadline, also when `signal` ends the wait, or is aborted already.
   * @throws UnknownDecisionError, UnauthorizedError, and UnavailableError: its place is then held until its window has
   * passed.
   */
  async release({ signal, policy, subject, id }: ReleaseRequest): Promise<Release> {
    return this.#change("release", { policy, subject: textsOf(subject), id }, signal, (body) =>
      isRelease(body) ? releaseOf(body) : undefined,
    );
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
   * Undoes a consume that its caller has left, once it is known to be admitted. That is asked by its key, with a deadline of
   * its own: the try under way was ended, so that it holds up no batch.
   */
  async #giveBack(question: Question, text: string): Promise<void> {
    const consumed = this.#breaker.observe(() => this.#ask("consume", question, { text, isNew: false }), question);
    const decision = await consumed.catch((error: unknown) => this.#missed("consume", error));
    if (!decision?.allowed || decision.degraded) return;
    const { policy, subject } = question;
    const asked = { policy, subject, id: text };
    // Each is tried whatever becomes of the other.
    this.settle({ ...asked, cost: 0 }).catch((error: unknown) => this.#missed("settle", error));
    this.release(asked).catch((error: unknown) => this.#missed("release", error));
  }

  #missed(op: Op, error: unknown): void {
    this.#log(`A ${op} that nobody waited for has failed.`, error instanceof LimiterError ? error : undefined);
  }

  #ask(op: "consume" | "check", question: Question, key?: Key, signal?: AbortSignal): Promise<Decision> {
    return this.#exchange.call(op, { ...question }, key, signal, (answer) => {
      const { status, body, headers } = answer;
      if (!isDecision(body) || status !== (op === "consume" && !body.allowed ? 429 : 200)) throw errorOf(answer);
      requireSameRequest(question, body);
      return decisionOf(body, headers);
    });
  }

  #change<T>(
    op: Exclude<Op, "consume" | "check">,
    body: PolicySubject & { readonly id: string; readonly cost?: number },
    signal: AbortSignal | undefined,
    read: (body: unknown) => T | undefined,
  ): Promise<T> {
    const changed = this.#breaker.observe(() =>
      this.#exchange.call(op, { ...body }, undefined, undefined, (answer) => {
        const told = answer.status === 200 ? read(answer.body) : undefined;
        if (told === undefined) throw errorOfChange(answer);
        requireSameRequest(body, answer.body);
        return told;
      }),
    );
    return waitUnlessAborted(signal, changed, (error) => this.#missed(op, error));
  }
}

/** @throws UnavailableError when the answer is about another policy or key, or names another decision. */
function requireSameRequest({ policy, subject, id }: PolicySubject & { readonly id?: string }, body: unknown): void {
  const told = fieldsOf(body);
  const isTold = told.policy === policy && (id === undefined || told.id === id);
  if (isTold && matchSubject(subject, told.limits as unknown[])) return;
  throw new UnavailableError("the answer is about another policy, key or decision than the request");
}

/** Nobody can decide: not for this request, and not for others like it. */
function isOutage(error: LimiterError): boolean {
  if (error instanceof InvalidRequestError) return error.status === 404;
  return error instanceof UnavailableError || error instanceof UnauthorizedError;
}

function outageText(error: LimiterError, policy: string): string {
  if (error instanceof UnauthorizedError) return "The limiter refuses the token.";
  if (error instanceof InvalidRequestError) return `The limiter has no policy ${JSON.stringify(policy)}.`;
  return "The limiter did not answer.";
}

/** Why an earlier consume could not be changed. */
function errorOfChange(answer: Reply): LimiterError {
  const error = errorOf(answer);
  // The other 404 points at the name of a policy that there is not.
  const isUnknown = error instanceof InvalidRequestError && error.status === 404 && error.errors.length === 0;
  return isUnknown ? new UnknownDecisionError(error.detail) : error;
}

/** The names of the policies in force. */
function policiesIn(answer: Reply): unknown[] {
  const { policies } = fieldsOf(answer.body);
  if (answer.status !== 200 || !Array.isArray(policies)) throw errorOf(answer);
  return policies.map((policy) => fieldsOf(policy).name);
}

function invalidKey(): InvalidRequestError {
  return new InvalidRequestError(400, "The request has a mistake.", [
    { pointer: "/idempotency_key", detail: "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -" },
  ]);
}

/** Random, by what every runtime has: `randomUUID` is missing on a page that was not served over HTTPS. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
