const KEY_BYTES = 16;
/** Random bytes for so many keys are made at once: that takes hardly longer than the bytes for one. */
const POOL_KEYS = 256;

const pool = new Uint8Array(KEY_BYTES * POOL_KEYS);
let used = pool.length;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

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
