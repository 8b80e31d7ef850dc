import { fieldsOf } from "./decision.js";
import {
  type InvalidField,
  InvalidRequestError,
  type LimiterError,
  UnauthorizedError,
  UnavailableError,
  UnknownPolicyError,
} from "./errors.js";

/** The way the client calls `fetch`. A replacement, such as that of a service binding, needs no more. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A response, read to its end. */
export interface Reply {
  readonly status: number;
  /** `RateLimit`, `RateLimit-Policy` and `Retry-After`, as far as the response has them. */
  readonly headers: Record<string, string>;
  /** The body; undefined if it is not JSON. */
  readonly body: unknown;
}

/** Bounds the search for a cause: errors may be each other's causes, in a circle. */
const MOST_CAUSES = 10;

const FORWARDED_HEADERS = ["RateLimit", "RateLimit-Policy", "Retry-After"];

/**
 * Sends a request and reads the response to its end, so that the connection can be reused.
 * @throws UnavailableError if there is no response, or a 5xx.
 */
export async function send(fetch: Fetch, url: string, init: RequestInit): Promise<Reply> {
  // A replacement of `fetch` may throw instead of rejecting.
  const reply = await (async () => read(await fetch(url, init)))().catch((cause: unknown) => {
    throw new UnavailableError(`${url} can't be reached: ${causeText(cause)}`, { cause });
  });
  return requireNoServerError(reply);
}

/** The innermost cause in words: the error of `fetch` itself says little. */
function causeText(thrown: unknown): string {
  let error = thrown;
  for (let i = 0; i < MOST_CAUSES && fieldsOf(error).cause !== undefined; i++) error = fieldsOf(error).cause;
  const { message, code } = fieldsOf(error);
  const text = [message, code].find((text) => typeof text === "string" && text !== "");
  if (typeof text === "string") return text;
  return Object(error) === error ? "no reason was given" : String(error);
}

/** @throws UnavailableError for a 5xx, which decides nothing. */
export function requireNoServerError(reply: Reply): Reply {
  if (reply.status < 500) return reply;
  throw new UnavailableError(`the limiter answered ${reply.status}${detailOf(reply)}`, {
    retryAfterMs: 1_000 * Number(/^\d+$/.exec(reply.headers["Retry-After"] ?? "")?.[0] ?? 0),
    // Only problems of the service repeat their status in the body.
    isAboutSubject: fieldsOf(reply.body).status === reply.status && detailOf(reply) !== "",
  });
}

async function read(response: Response): Promise<Reply> {
  const headers = forwardedHeaders((name) => response.headers.get(name));
  return { status: response.status, headers, body: parseJson(await response.text()) };
}

/** The headers that a caller may pass on to its own client. */
export function forwardedHeaders(headerOf: (name: string) => unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of FORWARDED_HEADERS) {
    const value = headerOf(name);
    if (typeof value === "string") headers[name] = value;
  }
  return headers;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function detailOf({ body }: Reply): string {
  const { detail } = fieldsOf(body);
  return typeof detail === "string" ? `: ${detail}` : "";
}

/** The error for an unexpected reply to a call by `policy`: UnavailableError, unless it is a problem of the service. */
export function errorOf({ status, body }: Reply, policy = ""): LimiterError {
  const { status: bodyStatus, detail, errors = [] } = fieldsOf(body);
  // Only problems of the service repeat their status in the body: a proxy's 403 says nothing about the token.
  if (status < 400 || status === 429 || bodyStatus !== status || typeof detail !== "string")
    return notFromService(status);
  if (status === 401 || status === 403) return new UnauthorizedError(detail);
  if (!areInvalidFields(errors)) return notFromService(status);
  if (status === 404 && errors.some(({ pointer }) => pointer === "/policy"))
    return new UnknownPolicyError([policy], detail, errors);
  return new InvalidRequestError(status, detail, errors);
}

/** A firewall may refuse a subject by its name: an error of status 4xx says nothing about other subjects. */
export function notFromService(status: number): UnavailableError {
  const isAboutSubject = status >= 400 && status < 500;
  return new UnavailableError(`the answer with status ${status} did not come from the limiter`, { isAboutSubject });
}

function areInvalidFields(errors: unknown): errors is InvalidField[] {
  return (
    Array.isArray(errors) &&
    errors.every((error) => {
      const { pointer, detail } = fieldsOf(error);
      return typeof pointer === "string" && typeof detail === "string";
    })
  );
}
