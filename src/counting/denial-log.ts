import { bytesToHex } from "@noble/hashes/utils.js";
import type { Config } from "../config/config";
import { logFault } from "../fault";
import { type Decision, reasonsOf, retryAfterSeconds } from "../limiter/decision";
import type { Watcher } from "../limiter/limiter";
import type { WaitUntil } from "../objects/asker";

const utf8 = new TextEncoder();
const DIGEST_BYTES = 8;

/**
 * Logs a share of the denials, a line of JSON each. A key is logged as a digest keyed by the tokens: a plain digest of
 * an address could be reversed by trying all addresses. Other tokens make other digests.
 */
export class DenialLog implements Watcher {
  constructor(
    private readonly config: Pick<Config, "logDenials" | "logKeys" | "callerTokens" | "adminTokens" | "tokenDigests">,
    private readonly random: () => number,
  ) {}

  onDecision(decision: Decision, waitUntil: WaitUntil): void {
    if (decision.allowed || this.random() >= this.config.logDenials) return;
    waitUntil(this.#write(decision).catch((error: unknown) => logFault("denial_not_logged", error)));
  }

  async #write(decision: Decision): Promise<void> {
    const layers = [...reasonsOf(decision)].map(async ([layer, key]) => ({
      layer,
      key: this.config.logKeys ? key : await this.#digest(key),
    }));
    const line = {
      message: "denied",
      policy: decision.policy.name,
      layers: await Promise.all(layers),
      cost: decision.cost,
      retry_after_seconds: retryAfterSeconds(decision),
      at_edge: decision.isCached,
    };
    console.log(JSON.stringify(line));
  }

  async #digest(key: string): Promise<string> {
    const { callerTokens, adminTokens, tokenDigests } = this.config;
    // WebCrypto refuses an empty key. Without tokens, only other Workers can call.
    const secret = utf8.encode(
      [...adminTokens, ...callerTokens, ...tokenDigests.map(({ sha256 }) => sha256)].join() || "no tokens",
    );
    const hmac = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const digest = await crypto.subtle.sign("HMAC", hmac, utf8.encode(key));
    return bytesToHex(new Uint8Array(digest, 0, DIGEST_BYTES));
  }
}
