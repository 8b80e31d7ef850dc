export type Role = "caller" | "admin";

/** Digests of the tokens in force: of equal length, so that comparing takes the same time however much of one is right. */
export type Tokens = Readonly<Record<Role, readonly ArrayBuffer[]>>;

export async function digestTokens(tokens: Readonly<Record<Role, readonly string[]>>): Promise<Tokens> {
  return {
    caller: await Promise.all(tokens.caller.map(digest)),
    admin: await Promise.all(tokens.admin.map(digest)),
  };
}

/** The role of whoever presents this token, undefined if it is none of them. An admin may do all that a caller may. */
export async function roleOf(token: string, { caller, admin }: Tokens): Promise<Role | undefined> {
  const presented = await digest(token);
  const isAdmin = isOneOf(presented, admin);
  const isCaller = isOneOf(presented, caller);
  if (isAdmin) return "admin";
  return isCaller ? "caller" : undefined;
}

/** Compares with all of them, wherever it is found. */
function isOneOf(presented: ArrayBuffer, tokens: readonly ArrayBuffer[]): boolean {
  return tokens.reduce((found, token) => crypto.subtle.timingSafeEqual(presented, token) || found, false);
}

function digest(token: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
}
