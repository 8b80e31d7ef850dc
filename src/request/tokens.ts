import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";
import type { Config } from "../config/config";
import type { Role, Token, TokenDigest } from "../config/token-digests";

export type { Role, Token };

const utf8 = new TextEncoder();

/** No token that is configured by its digest is longer. */
const LONGEST_BY_DIGEST = 256;

/**
 * The tokens of the configuration. They are told apart by SHA-256: a token has 256 random bits, so nobody finds one by
 * trying, and a digest that is slow on purpose would protect nothing more. It would cost every request.
 */
export class Tokens {
  /** The first that matches holds: a line with a digest says more about a token than a list that has it too. */
  readonly #configured: readonly { readonly token: TokenDigest; readonly digest: Uint8Array }[];
  readonly #longest: number;
  /**
   * The configured tokens that were presented, so that each is digested once. It holds no others, so it is bounded and no
   * flood of wrong tokens empties it. A lookup compares the text of two tokens only if the hashes of both texts are equal,
   * so its time does not tell how a guess begins. It tells what the answer tells: this is a token.
   */
  readonly #presented = new Map<string, TokenDigest>();

  constructor({ tokenDigests, adminTokens, callerTokens }: TokenConfig) {
    const tokens = [
      ...tokenDigests,
      ...listed(adminTokens, "admin", "LIMITER_ADMIN_TOKENS"),
      ...listed(callerTokens, "caller", "LIMITER_TOKENS"),
    ];
    this.#configured = tokens.map((token) => ({ token, digest: hexToBytes(token.sha256) }));
    this.#longest = Math.max(LONGEST_BY_DIGEST, ...[...adminTokens, ...callerTokens].map(({ length }) => length));
  }

  get areNone(): boolean {
    return this.#configured.length === 0;
  }

  /**
   * The token with this text, also if it has ended. Its digest is compared with every other in constant time, so the time
   * tells nothing of any token, its length included.
   */
  find(text: string): TokenDigest | undefined {
    const presented = this.#presented.get(text);
    // Longer texts are no token: digesting them would be work for anybody who sends them.
    if (presented || text.length > this.#longest) return presented;
    const bytes = sha256(utf8.encode(text));
    const matching = this.#configured.filter(({ digest }) => crypto.subtle.timingSafeEqual(bytes, digest));
    const token = matching[0]?.token;
    if (token) this.#presented.set(text, token);
    return token;
  }

  /** The token with this digest, also if it has ended. For digests that `find` returned, not for those of callers. */
  withDigest(sha256: string): Token | undefined {
    return this.#configured.find(({ token }) => token.sha256 === sha256)?.token;
  }
}

type TokenConfig = Pick<Config, "tokenDigests" | "adminTokens" | "callerTokens">;

/** The tokens of a list. They may do all that their role may, and have no end. */
function listed(texts: readonly string[], role: Role, variable: string): TokenDigest[] {
  return texts.map((text, i) => ({
    name: `${variable}[${i}]`,
    role,
    policies: undefined,
    endsAtMs: Number.POSITIVE_INFINITY,
    sha256: bytesToHex(sha256(utf8.encode(text))),
  }));
}

/** Whether the token is refused at this instant. */
export function hasEnded({ endsAtMs }: Token, nowMs: number): boolean {
  return endsAtMs <= nowMs;
}

/** Whether the token may use the policy, or inline limits: their policy is named `inline`. */
export function mayUse({ policies }: Pick<Token, "policies">, policy: string): boolean {
  return policies === undefined || policies.has(policy);
}
