/** Base class of the client's errors. */
export class LimiterError extends Error {
  override readonly name: string = "LimiterError";
}

/** One mistake in a request, at a JSON pointer (RFC 6901) into it, such as `/subject/ip`. */
export interface InvalidField {
  readonly pointer: string;
  readonly detail: string;
}

/**
 * The request can't be decided, and a retry would not help: it is malformed (400, 413, 415), its policy is not in force
 * (404), its cost is above a limit, or its idempotency key was used with another cost or policy (422).
 */
export class InvalidRequestError extends LimiterError {
  override readonly name: string = "InvalidRequestError";

  constructor(
    readonly status: number,
    readonly detail: string,
    /** Every mistake in a malformed request. */
    readonly errors: readonly InvalidField[] = [],
  ) {
    super([detail, ...errors.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join("\n"));
  }
}

/** The service has no policies of these names (404). */
export class UnknownPolicyError extends InvalidRequestError {
  override readonly name = "UnknownPolicyError";

  constructor(
    readonly policies: readonly string[],
    detail: string,
    errors: readonly InvalidField[],
  ) {
    super(404, detail, errors);
  }
}

/** The token is not in force (401), or does not permit the call (403). */
export class UnauthorizedError extends LimiterError {
  override readonly name = "UnauthorizedError";
}

/** No decision of this policy and subject in the window has this id. */
export class UnknownDecisionError extends LimiterError {
  override readonly name = "UnknownDecisionError";
}

/**
 * No answer of the service within the deadline: its host is unreachable, does not answer, fails (5xx), or is not the
 * limiter. The last request may still have done its work.
 */
export class UnavailableError extends LimiterError {
  override readonly name = "UnavailableError";
  /** `Retry-After` of the reply; 0 without that header. */
  readonly retryAfterMs: number;
  /** The service can't decide this request, or a firewall refused it. Other subjects may still get decisions. */
  readonly isAboutSubject: boolean;

  constructor(
    message: string,
    {
      retryAfterMs = 0,
      isAboutSubject = false,
      ...options
    }: ErrorOptions & { readonly retryAfterMs?: number; readonly isAboutSubject?: boolean } = {},
  ) {
    super(message, options);
    this.retryAfterMs = retryAfterMs;
    this.isAboutSubject = isAboutSubject;
  }
}

/** A reply to another request. No later reply on the same connection can be trusted. */
export class MismatchedReplyError extends UnavailableError {
  constructor() {
    super("the answer is about another policy, key, decision or cost than the request");
  }
}
