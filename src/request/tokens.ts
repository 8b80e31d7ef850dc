export type Role = "caller" | "admin";

/** The tokens in force, as bytes. */
export type Tokens = Readonly<Record<Role, readonly Uint8Array[]>>;

const encoder = new TextEncoder();

export function encodeTokens(tokens: Readonly<Record<Role, readonly string[]>>): Tokens {
  const encoded = (list: readonly string[]) => list.map((token) => encoder.encode(token));
  return { caller: encoded(tokens.caller), admin: encoded(tokens.admin) };
}

/** The role of a token; undefined if the token is not in force. An admin may do all that a caller may. */
export function roleOf(token: string, { caller, admin }: Tokens): Role | undefined {
  const presented = encoder.encode(token);
  const isAdmin = isOneOf(presented, admin);
  const isCaller = isOneOf(presented, caller);
  if (isAdmin) return "admin";
  return isCaller ? "caller" : undefined;
}

/**
 * Compares with every token, in time that depends on lengths only. So an attacker can learn how long the tokens are,
 * and nothing else. Digests would hide the lengths too, but cost as much as a decision.
 */
function isOneOf(presented: Uint8Array, tokens: readonly Uint8Array[]): boolean {
  const matches = (token: Uint8Array) =>
    token.byteLength === presented.byteLength && crypto.subtle.timingSafeEqual(presented, token);
  return tokens.reduce((found, token) => matches(token) || found, false);
}
