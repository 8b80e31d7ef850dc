export type Role = "caller" | "admin";

/** What is known of a token, except the token itself. */
export interface Token {
  /** What metrics and the audit call it. Tells nothing of the token itself. */
  readonly name: string;
  readonly role: Role;
}

/** The tokens in force, admin tokens first, each with its bytes. */
export type Tokens = readonly { readonly token: Token; readonly bytes: Uint8Array }[];

const encoder = new TextEncoder();

/** The tokens of the variables, named by variable and position: `LIMITER_TOKENS[0]`. */
export function encodeTokens({ caller, admin }: Readonly<Record<Role, readonly string[]>>): Tokens {
  const encoded = (list: readonly string[], role: Role, variable: string) =>
    list.map((text, i) => ({ token: { name: `${variable}[${i}]`, role }, bytes: encoder.encode(text) }));
  return [...encoded(admin, "admin", "LIMITER_ADMIN_TOKENS"), ...encoded(caller, "caller", "LIMITER_TOKENS")];
}

/**
 * The token in force with this text. An admin may do all that a caller may, so the admin token is found first.
 *
 * Compares with every token, in time that depends on lengths only. So an attacker can learn how long the tokens are,
 * and nothing else. Digests would hide the lengths too, but cost as much as a decision.
 */
export function tokenOf(text: string, tokens: Tokens): Token | undefined {
  const presented = encoder.encode(text);
  const matches = (bytes: Uint8Array) =>
    bytes.byteLength === presented.byteLength && crypto.subtle.timingSafeEqual(presented, bytes);
  return tokens.filter(({ bytes }) => matches(bytes))[0]?.token;
}
