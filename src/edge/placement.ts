import type { Placement } from "../config/config";

/**
 * The name of the object that holds a key.
 *
 * An object a key scales without bound on Cloudflare. On one machine every live object costs open files and memory,
 * so there a fixed number of objects shares all keys. A key that changes objects starts anew: another placement
 * forgets the counters, another number of shards most of them.
 */
export function objectOf(key: string, placement: Placement): string {
  return placement.kind === "key" ? key : `shard:${fnv1a(key) % placement.count}`;
}

/** FNV-1a over UTF-16 code units: even enough to spread keys, and the same in every isolate for ever. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
