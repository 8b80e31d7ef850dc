import { createHash, randomBytes } from "node:crypto";
import { readConfig } from "../../config/config";
import { tokenLine } from "../../config/token-digests";

export interface TokenWish {
  readonly name: string;
  readonly role: string;
  readonly policies?: readonly string[] | undefined;
  readonly until?: string | undefined;
}

/** Too many for anyone to try, so that a digest which is read tells nobody the token. */
const TOKEN_BYTES = 32;

/** A new token, and its line for `LIMITER_TOKEN_DIGESTS`. @throws ConfigError for a wish that makes no valid line. */
export function makeToken({ name, role, policies, until }: TokenWish): {
  readonly token: string;
  readonly line: string;
} {
  // Every character may stand in a WebSocket subprotocol.
  const token = `lim_${randomBytes(TOKEN_BYTES).toString("base64url")}`;
  const wished = [
    name,
    role,
    ...(policies ? [`policies=${policies.join("+")}`] : []),
    ...(until === undefined ? [] : [`until=${until}`]),
    `sha256:${createHash("sha256").update(token).digest("hex")}`,
  ];
  const line = readConfig({ LIMITER_TOKEN_DIGESTS: wished.join(" ") })
    .tokenDigests.map(tokenLine)
    .join();
  return { token, line };
}
