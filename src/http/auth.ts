import { type Role, type Token, type Tokens, tokenOf } from "../request/tokens";
import { Problem } from "./problem";

const MISSING = "The request has no bearer token. Send Authorization: Bearer TOKEN.";
const WRONG = "The token is not in force. Send one of LIMITER_TOKENS or LIMITER_ADMIN_TOKENS.";

/** The subprotocol of sessions: docs/api.md describes it. */
export const SESSION_PROTOCOL = "exact-limiter.v1";

/** The token of the Authorization header (RFC 6750). */
export function bearerOf(headers: Headers): string | undefined {
  return /^Bearer +([\x21-\x7e]+) *$/i.exec(headers.get("Authorization") ?? "")?.[1];
}

interface SessionToken {
  readonly token: string | undefined;
  /** The subprotocol of sessions is offered. */
  readonly isOffered: boolean;
}

/**
 * The token of a request that opens a session: of the Authorization header, if it is sent; otherwise, for clients that
 * can't set headers, of the WebSocket subprotocol `bearer.TOKEN`.
 */
export function sessionTokenOf(headers: Headers): SessionToken {
  const offered = (headers.get("Sec-WebSocket-Protocol") ?? "").split(",").map((protocol) => protocol.trim());
  const isOffered = offered.includes(SESSION_PROTOCOL);
  if (headers.has("Authorization")) return { token: bearerOf(headers), isOffered };
  const bearer = isOffered ? offered.find((protocol) => protocol.startsWith("bearer.")) : undefined;
  return { token: bearer?.slice("bearer.".length), isOffered };
}

/**
 * Requires a bearer token of the role (RFC 6750), and returns what is known of it.
 * @throws Problem 503 if no tokens are configured, 401 without a valid token, 403 for a caller token on an admin call.
 */
export function authorize(text: string | undefined, tokens: Tokens, needed: Role): Token {
  if (tokens.length === 0)
    throw new Problem(503, "Service Unavailable", "No tokens are configured. Set LIMITER_TOKENS.", {
      "Retry-After": "60",
    });
  const token = text === undefined ? undefined : tokenOf(text, tokens);
  if (token === undefined)
    throw new Problem(401, "Unauthorized", text === undefined ? MISSING : WRONG, { "WWW-Authenticate": "Bearer" });
  if (needed === "admin" && token.role !== "admin")
    throw new Problem(403, "Forbidden", "This call needs an admin token: one of LIMITER_ADMIN_TOKENS.");
  return token;
}
