/** Whatever the client throws, except what a caller's own `AbortSignal` gives as its reason. */
export class LimiterError extends Error {
  override readonly name: string = "LimiterError";
}

/** One mistake in a request, at a JSON pointer (RFC 6901) into it, such as `/subject/ip`. */
export interface InvalidField {
  readonly pointer: string;
  readonly detail: string;
}

/**
 * The request can't be decided, whenever and however often it is sent: it is malformed (400, 413, 415), names no policy
 * in force (404), or has a cost above a limit or an idempotency key that was used for something else (422).
 */
export class InvalidRequestError extends LimiterError {
  override readonly name = "InvalidRequestError";

  constructor(
    readonly status: number,
    readonly detail: string,
    /** Of a malformed request: every mistake in it. */
    readonly errors: readonly InvalidField[] = [],
  ) {
    super([detail, ...errors.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join("\n"));
  }
}

/** The token is not in force (401), or may not do this (403). */
export class UnauthorizedError extends LimiterError {
  override readonly name = "UnauthorizedError";
}

/** There is no such decision of this policy and subject in the window. */
export class UnknownDecisionError extends LimiterError {
  override readonly name = "UnknownDecisionError";
}

/**
 * No answer of the service within the deadline: its host can't be reached, is silent, fails (5xx), or what answers there
 * is not the limiter. Whether the last request did its work is not known.
 */
export class UnavailableError extends LimiterError {
  override readonly name = "UnavailableError";
  /** How long the service asks to be left alone; 0 when it says nothing of that. */
  readonly retryAfterMs: number;
  /** The service itself says 503, in a problem document: it can be reached, and maybe one of its objects can't. */
  readonly isFromService: boolean;

  constructor(
    message: string,
    {
      retryAfterMs = 0,
      isTold = false,
      ...options
    }: ErrorOptions & { readonly retryAfterMs?: number; readonly isTold?: boolean } = {},
  ) {
    super(message, options);
    this.retryAfterMs = retryAfterMs;
    this.isFromService = isTold;
  }
}
