import type { Placement } from "../config/config";
import { fnv1a } from "./hash";

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
