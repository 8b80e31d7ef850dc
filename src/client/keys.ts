import { InvalidRequestError } from "./errors.js";
import type { Id } from "./requests.js";
import { idTextOf } from "./subject.js";

/** An idempotency key. */
export interface Key {
  readonly text: string;
  /** The client made it for this call. */
  readonly isNew: boolean;
  /** How often it was sent, or was about to be. */
  attempts: number;
  /** The service may have received it, and has not said that it was denied. */
  isSent?: boolean;
}

const KEY_BYTES = 16;
/** Random bytes for so many keys are made at once: that takes hardly longer than the bytes for one. */
const POOL_KEYS = 256;

const pool = new Uint8Array(KEY_BYTES * POOL_KEYS);
let used = pool.length;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/**
 * The caller's key; a new key without one.
 * @throws InvalidRequestError for a key that is too long or does not fit in a header, TypeError for a key that is no id.
 */
export function keyOf(id: Id | undefined): Key {
  if (id === undefined) return { text: newKey(), isNew: true, attempts: 0 };
  const text = idTextOf("idempotencyKey", id);
  if (/^[\w.~:-]{1,128}$/.test(text)) return { text, isNew: false, attempts: 0 };
  // Not every string fits in a header: refused here, with the error of the service.
  throw new InvalidRequestError(400, "The request has a mistake.", [
    { pointer: "/idempotency_key", detail: "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -" },
  ]);
}

/** A random key. `randomUUID` is missing on pages that were not served over HTTPS. */
export function newKey(): string {
  if (used === pool.length) {
    crypto.getRandomValues(pool);
    used = 0;
  }
  let key = "";
  for (const end = used + KEY_BYTES; used < end; used++) key += HEX[pool[used] as number];
  return key;
}
