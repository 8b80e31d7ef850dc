import { sha256 } from "@noble/hashes/sha2.js";

/** FNV-1a over UTF-16 code units: spreads evenly, and is the same in every isolate for ever. Not for secrets. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

const utf8 = new TextEncoder();
/** A multiple of 3, which base64 has a whole number of characters for. */
const DIGEST_BYTES = 15;

/** Of the keys seen last: the same few layers count the same callers again and again. */
const keyDigests = new Map<string, string>();
const MOST_KEY_DIGESTS = 4_096;

/** The same digest as `digestOf`, remembered. */
export function keyDigestOf(key: string): string {
  const known = keyDigests.get(key);
  if (known !== undefined) return known;
  const digest = digestOf(key);
  if (keyDigests.size >= MOST_KEY_DIGESTS) keyDigests.clear();
  keyDigests.set(key, digest);
  return digest;
}

/** 120 bits of SHA-256 as 20 characters: nobody can find two texts with one digest, however they choose them. */
export function digestOf(text: string): string {
  return btoa(String.fromCharCode(...sha256(utf8.encode(text)).subarray(0, DIGEST_BYTES)));
}
