import type { Config } from "../config/config";
import { type Decided, reasonsOf, retryAfterSeconds } from "./decision";
import type { WaitUntil } from "./fan-out";
import { logFault } from "./fault";

const utf8 = new TextEncoder();
const DIGEST_BYTES = 8;

/**
 * Says in the log who was denied, a line of JSON for each of a share of the denials. Whose key it was is told as a digest
 * that only the tokens make: an address would be found by trying them all. It is the same for as long as they are.
 */
export class DenialLog {
  constructor(
    private readonly config: Pick<Config, "logDenials" | "logKeys" | "callerTokens" | "adminTokens">,
    private readonly random: () => number,
  ) {}

  /** Never throws, and is not waited for. */
  decided(decided: Decided, waitUntil: WaitUntil): void {
    if (decided.allowed || this.random() >= this.config.logDenials) return;
    waitUntil(this.#write(decided).catch((error: unknown) => logFault("A denial could not be logged.", error)));
  }

  async #write(decided: Decided): Promise<void> {
    const layers = [...reasonsOf(decided)].map(async ([layer, key]) => ({
      layer,
      key: this.config.logKeys ? key : await this.#digest(key),
    }));
    const line = {
      message: "denied",
      policy: decided.policy.name,
      layers: await Promise.all(layers),
      cost: decided.cost,
      retry_after_seconds: retryAfterSeconds(decided),
      at_edge: decided.isRemembered,
    };
    console.log(JSON.stringify(line));
  }

  async #digest(key: string): Promise<string> {
    const { callerTokens, adminTokens } = this.config;
    // HMAC takes no empty key, and without tokens only other Workers call.
    const secret = utf8.encode([...adminTokens, ...callerTokens].join() || "no tokens");
    const hmac = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const digest = new Uint8Array(await crypto.subtle.sign("HMAC", hmac, utf8.encode(key)));
    return [...digest.subarray(0, DIGEST_BYTES)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
