import { decisionOf } from "../client/decision.js";
import { type Decision, InvalidRequestError, type Limiter, type Log, type Subject } from "../client/index.js";
import { oncePerMinute } from "../client/log.js";
import { addressIn, clientAddress } from "./address.js";
import { Charge, type Cost } from "./charge.js";
import { publicBody, type Refusal, refusalOfDenial, refusalOfMistake } from "./refusal.js";

type OrPromise<T> = T | Promise<T>;

/** A value, or a function that finds it in the request. */
export type OfRequest<R, T> = T | ((request: R) => OrPromise<T>);

/** How a limit counts and ends requests of type `R`. */
export interface GuardOptions<R> {
  /** How much a request weighs. Default: 1. */
  readonly cost?: OfRequest<R, Cost | undefined> | undefined;
  /** The signed-in user. Default: the header `X-User-Id`, which only your gateway may set. */
  readonly user?: ((request: R) => OrPromise<Subject[string]>) | undefined;
  /** Other attributes that the policy counts by. A `user` or an `ip` in it is used in place of those found elsewhere. */
  readonly attributes?: ((request: R) => OrPromise<Subject>) | undefined;
  /** The visitor's address, where `trustedProxies` can't tell it. If there is none, it is found as by default. */
  readonly address?: ((request: R) => OrPromise<string | null | undefined>) | undefined;
  /**
   * Whether to give the charge back (to settle it at 0 and to release it), by the status of the response, once it has
   * ended: `(status) => status >= 500`. Default: never.
   */
  readonly refund?: ((status: number) => boolean) | undefined;
  /** Whether the end of the response releases the request for concurrent limits. Default: false. */
  readonly releaseAfterResponse?: boolean | undefined;
  /** Makes the body of a 429 and of a 503. Default: `publicBody`, without keys and limits. */
  readonly publicBody?: ((decision: Decision) => object) | undefined;
  /** False: every request passes, and the limiter is not asked. Default: true. */
  readonly enabled?: boolean | undefined;
  /** Logs mistakes of the application, each at most once a minute. Default: `console.error`. */
  readonly log?: Log | undefined;
}

/** Options for all limits of an application. */
export interface ApplicationOptions<R> extends GuardOptions<R> {
  /**
   * The number of your own proxies before the application. Each appends the address of its peer to `X-Forwarded-For`.
   * Entries before theirs are ignored.
   */
  readonly trustedProxies: number;
}

/** How the requests of a framework are read. */
export interface RequestReader<R> {
  /** A header; its lines joined by commas, if there are more than one. */
  readonly header: (request: R, name: string) => string | undefined;
  /** The address of the other end of the connection. */
  readonly peer: (request: R) => string | undefined;
}

/** Either the charge of a request that passes, or the refusal. */
export type Admission = { readonly charge: Charge; readonly refusal?: undefined } | { readonly refusal: Refusal };

/** Admits requests by a policy. */
export class Guard<R> {
  readonly #log: Log;

  /** @throws RangeError if `trustedProxies` is no count. */
  constructor(
    private readonly limiter: Limiter,
    private readonly reader: RequestReader<R>,
    private readonly policy: OfRequest<R, string>,
    private readonly options: ApplicationOptions<R>,
  ) {
    const { trustedProxies, log } = options;
    if (!Number.isSafeInteger(trustedProxies) || trustedProxies < 0)
      throw new RangeError(`trustedProxies must be a whole number of at least 0, not ${trustedProxies}`);
    this.#log = oncePerMinute(log);
  }

  /** @throws TypeError for an attribute that can't be used, RangeError for such a cost, and what the functions in the options throw. */
  async admit(request: R): Promise<Admission> {
    const { cost: costOf, enabled = true, publicBody: bodyOf = publicBody } = this.options;
    // Before anything is awaited: a connection that its visitor has closed has no address.
    const found = this.#addressOf(request);
    const policy = await valueFor(request, this.policy);
    const cost = checkedCost(await valueFor(request, costOf));
    if (!enabled) return { charge: this.#chargeOf(passed(policy, cost), {}) };
    const subject = await this.#subjectOf(request, found);
    try {
      const decision = await this.limiter.consume({ policy, subject, cost });
      return decision.allowed
        ? { charge: this.#chargeOf(decision, subject) }
        : { refusal: refusalOfDenial(decision, bodyOf) };
    } catch (error) {
      if (!(error instanceof InvalidRequestError)) throw error;
      const mistake = { error, subject, costOfVisitor: typeof costOf === "function" ? (cost ?? 1) : undefined };
      const report = () => this.#log(`Requests by policy ${JSON.stringify(policy)} are refused.`, error);
      return { refusal: refusalOfMistake(mistake, report) };
    }
  }

  /** Whether `end` does anything. */
  get hasEnd(): boolean {
    return this.options.refund !== undefined || this.options.releaseAfterResponse === true;
  }

  /** Gives back and releases, once the response has ended. Never rejects: failures are logged. */
  async end(charge: Charge, status: number): Promise<void> {
    try {
      const isRefunded = this.options.refund?.(status) === true;
      const isReleased = (isRefunded || this.options.releaseAfterResponse === true) && !charge.isReleased;
      await Promise.all([isRefunded && charge.settle(0), isReleased && charge.release()]);
    } catch (error) {
      this.#log(`"refund" has failed: ${error}`);
    }
  }

  async #subjectOf(request: R, found: string): Promise<Subject> {
    const { user, attributes, address } = this.options;
    const userValue = await (user ? user(request) : this.#userFromHeader(request));
    const others = await attributes?.(request);
    const ip = others?.ip ?? (await address?.(request));
    return {
      ...others,
      user: others?.user ?? userValue,
      ip: ip ? (addressIn(String(ip)) ?? ip) : found,
    };
  }

  #addressOf(request: R): string {
    const { header, peer } = this.reader;
    return clientAddress(header(request, "x-forwarded-for"), peer(request), this.options.trustedProxies);
  }

  #userFromHeader(request: R): string | undefined {
    const value = this.reader.header(request, "x-user-id");
    return value === undefined ? undefined : decodeHeader(value);
  }

  #chargeOf(decision: Decision, subject: Subject): Charge {
    return new Charge(decision, this.limiter, subject, this.#log);
  }
}

async function valueFor<R, T>(request: R, value: OfRequest<R, T>): Promise<T> {
  return typeof value === "function" ? (value as (request: R) => OrPromise<T>)(request) : value;
}

/**
 * @throws RangeError for a cost that is no whole number of at least 1. A cost of 0 would pass free of charge. The
 * service judges costs by layer.
 */
function checkedCost(cost: Cost | undefined): Cost | undefined {
  if (typeof cost !== "number" || (Number.isSafeInteger(cost) && cost >= 1)) return cost;
  throw new RangeError(`cost must be a whole number of at least 1, not ${cost}: Math.max(1, …) keeps it there`);
}

/** The decision about a request of a limit that is not enabled. */
function passed(policy: string, cost: Cost = 1): Decision {
  const body = { allowed: true, policy, cost, replayed: false, degraded: false, retry_after_seconds: null, limits: [] };
  return decisionOf(body, {});
}

/** Some runtimes decode headers as Latin-1, but users are most likely UTF-8. */
function decodeHeader(value: string): string {
  if (!/^[\0-\xff]*[\x80-\xff][\0-\xff]*$/.test(value)) return value;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(value, (char) => char.charCodeAt(0)));
  } catch {
    return value;
  }
}
