import { fieldsOf } from "./decision.js";
import {
  type InvalidField,
  InvalidRequestError,
  type LimiterError,
  UnauthorizedError,
  UnavailableError,
} from "./errors.js";

/** The one form in which `fetch` is used, so that anything like it can stand in, a service binding too. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** What was answered, read to its end. */
export interface Reply {
  readonly status: number;
  /** Those of `RateLimit`, `RateLimit-Policy` and `Retry-After` that were answered. */
  readonly headers: Record<string, string>;
  /** The JSON, undefined if it is none. */
  readonly body: unknown;
}

/** Errors may be each other's causes, in a circle. */
const MOST_CAUSES = 10;

const FORWARDED_HEADERS = ["RateLimit", "RateLimit-Policy", "Retry-After"];

/**
 * Sends a request and reads what is answered, to the end, so that the connection can be used again.
 * @throws UnavailableError when nothing is, or a 5xx.
 */
export async function send(fetch: Fetch, url: string, init: RequestInit): Promise<Reply> {
  // A `fetch` of somebody's own may throw in place of rejecting.
  const answer = await (async () => read(await fetch(url, init)))().catch((cause: unknown) => {
    throw new UnavailableError(`${url} can't be reached: ${causeText(cause)}`, { cause });
  });
  return requireNoServerError(answer);
}

/** In words: `fetch` itself says little more than that it failed. */
function causeText(thrown: unknown): string {
  let error = thrown;
  for (let i = 0; i < MOST_CAUSES && fieldsOf(error).cause !== undefined; i++) error = fieldsOf(error).cause;
  const { message, code } = fieldsOf(error);
  const told = [message, code].find((text) => typeof text === "string" && text !== "");
  if (typeof told === "string") return told;
  return Object(error) === error ? "no reason was given" : String(error);
}

/** @throws UnavailableError for a 5xx, which is no word about what was asked. */
export function requireNoServerError(answer: Reply): Reply {
  if (answer.status < 500) return answer;
  throw new UnavailableError(`the limiter answered ${answer.status}${detailOf(answer)}`, {
    retryAfterMs: 1_000 * Number(/^\d+$/.exec(answer.headers["Retry-After"] ?? "")?.[0] ?? 0),
    // Only a problem that the service made says its status.
    isTold: answer.status === 503 && fieldsOf(answer.body).status === 503,
  });
}

async function read(response: Response): Promise<Reply> {
  const headers = forwardedHeaders((name) => response.headers.get(name));
  return { status: response.status, headers, body: parseJson(await response.text()) };
}

/** Those of the headers that a caller may pass on. */
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

/** The error that an answer is which is not what was asked for. UnavailableError unless the service says otherwise. */
export function errorOf({ status, body }: Reply): LimiterError {
  const { status: told, detail, errors } = fieldsOf(body);
  // Only a problem that the service made says its status: a proxy's 403 is no word about the token.
  if (status < 400 || status === 429 || told !== status || typeof detail !== "string")
    return new UnavailableError(`the answer with status ${status} did not come from the limiter`);
  if (status === 401 || status === 403) return new UnauthorizedError(detail);
  return new InvalidRequestError(status, detail, Array.isArray(errors) ? (errors as InvalidField[]) : []);
}
