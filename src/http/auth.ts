import { logFault } from "../fault";
import { normalAddress } from "../request/address";
import { hasEnded, type Role, type Token } from "../request/tokens";
import type { Service } from "../service";
import { Problem } from "./problem";

const MISSING = "The request has no bearer token. Send Authorization: Bearer TOKEN.";
const WRONG = "The token is not in force. Send one that the service is configured with.";

/** The subprotocol of sessions: docs/api.md describes it. */
export const SESSION_PROTOCOL = "exact-limiter.v1";

/** The path of the calls of proxies. */
export const GATE_PATH = "/v1/gate/";

/** The token of a proxy. `Authorization` belongs to the visitor, and proxies pass it on. */
export const GATE_TOKEN = "X-Limiter-Token";

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
 * Requires a token of the role, and returns what is known of it.
 * @throws Problem 503 if no tokens are configured, 401 without a token in force, or 429 in its place once too many from
 * the address have failed, 403 for a token of another role.
 */
export async function authorize(
  text: string | undefined,
  headers: Headers,
  service: Service,
  needed: Role,
  missing = MISSING,
): Promise<Token> {
  const { tokens, now } = service;
  if (tokens.areNone)
    throw new Problem(
      503,
      "Service Unavailable",
      "No tokens are configured. Set LIMITER_TOKEN_DIGESTS or LIMITER_TOKENS.",
      { "Retry-After": "60" },
    );
  const token = text === undefined ? undefined : tokens.find(text);
  if (token === undefined) return refuseSignIn(text === undefined ? missing : WRONG, headers, service);
  // Only a holder of the token learns this, and can do nothing with it but replace it.
  if (hasEnded(token, now()))
    return refuseSignIn(`The token ended at ${new Date(token.endsAtMs).toISOString()}.`, headers, service);
  if (token.role !== needed && token.role !== "admin")
    throw new Problem(403, "Forbidden", `This call takes no ${token.role} token. Send ${ALLOWED[needed]}.`);
  return token;
}

const ALLOWED: Readonly<Record<Role, string>> = {
  admin: "an admin token",
  caller: "a caller token or an admin token",
  "metrics-only": "a metrics-only token or an admin token",
};

/** Counts a failed sign-in, and slows further ones from its address down. A token in force is never slowed. */
async function refuseSignIn(detail: string, headers: Headers, service: Service): Promise<never> {
  service.counts?.countFailedSignIn();
  if (await isTooOften(headers, service))
    throw new Problem(
      429,
      "Too Many Requests",
      "Too many sign-ins from this address failed. Wait, and send another token.",
      { "Retry-After": LONGEST_PERIOD_SECONDS },
    );
  throw new Problem(401, "Unauthorized", detail, { "WWW-Authenticate": "Bearer" });
}

/** The longer of the two periods that the binding can have: it does not tell which one it has. */
const LONGEST_PERIOD_SECONDS = "60";

/** Without an address nothing is slowed: callers that share no address must not wait for each other. */
async function isTooOften(headers: Headers, { signInLimit, config }: Service): Promise<boolean> {
  const address = normalAddress(headers.get("CF-Connecting-IP") ?? "", config.ipv6PrefixBits);
  if (!signInLimit || address === undefined) return false;
  try {
    return !(await signInLimit.limit({ key: address })).success;
  } catch (error) {
    logFault("sign_in_not_slowed", error);
    return false;
  }
}
