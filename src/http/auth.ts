import { type Role, roleOf, type Tokens } from "../edge/tokens";
import { Problem } from "./problem";

/**
 * Lets a request pass that carries a token of the role (RFC 6750).
 * @throws Problem 503 when no tokens are configured, 401 without a known token, 403 for a caller on an admin call.
 */
export function authorize(request: Request, tokens: Tokens, needed: Role): void {
  if (tokens.caller.length + tokens.admin.length === 0)
    throw new Problem(503, "Service Unavailable", "No tokens are configured: set LIMITER_TOKENS.", {
      "Retry-After": "60",
    });
  const token = /^Bearer +([\x21-\x7e]+) *$/i.exec(request.headers.get("Authorization") ?? "")?.[1];
  const role = token === undefined ? undefined : roleOf(token, tokens);
  if (role === undefined)
    throw new Problem(401, "Unauthorized", "Send a token that is in force: Authorization: Bearer TOKEN.", {
      "WWW-Authenticate": "Bearer",
    });
  if (needed === "admin" && role !== "admin") throw new Problem(403, "Forbidden", "This call takes an admin token.");
}
