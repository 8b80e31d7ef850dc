import type { Placement } from "../config/config";
import { fnv1a } from "../core/fnv";

/**
 * The name of the object that holds a key.
 *
 * An object for each key scales without bound on Cloudflare. On one machine every live object costs open files and memory,
 * so a fixed number of objects shares all keys there. A key that moves to another object starts anew: another placement
 * forgets all counters of its keys, another number of shards forgets most of them.
 */
export function objectOf(key: string, placement: Placement): string {
  // Keys of inline limits begin with `inline/`, which is no attribute: they are placed as those of all other attributes.
  const attribute = placement.attributes ? key.slice(0, key.indexOf(":")) : "";
  const own = placement.attributes?.get(attribute);
  const placed = own ?? placement;
  if (placed.kind === "key") return key;
  // An attribute has no hyphen, so shards of an attribute share their names with no other object.
  return `${own ? `${attribute}-` : ""}shard:${fnv1a(key) % placed.count}`;
}
