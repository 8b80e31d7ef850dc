import { sha256 } from "@noble/hashes/sha2.js";

const utf8 = new TextEncoder();
/** A multiple of 3, so that base64 needs no padding. */
const DIGEST_BYTES = 15;

/** The first 120 bits of SHA-256, as 20 characters: too many for anyone to find two texts with the same digest. */
export function digestOf(text: string): string {
  return btoa(String.fromCharCode(...sha256(utf8.encode(text)).subarray(0, DIGEST_BYTES)));
}
