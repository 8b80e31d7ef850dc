import type { Placement } from "../config/config";
import { fnv1a } from "../core/fnv";

/**
 * The name of the object that holds a key.
 *
 * An object for each key scales without bound on Cloudflare. On one machine every live object costs open files and memory,
 * so a fixed number of objects shares all keys there. A key that moves to another object starts anew: another placement
 * forgets all counters, another number of shards forgets most of them.
 */
export function objectOf(key: string, placement: Placement): string {
  return placement.kind === "key" ? key : `shard:${fnv1a(key) % placement.count}`;
}
