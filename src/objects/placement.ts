import type { Placement } from "../config/config";
import { fnv1a } from "../core/fnv";

/**
 * The name of the object that holds a key.
 *
 * An object for each key scales without bound on Cloudflare, but the first call of each key waits until the object is
 * created. Shards stay warm. On one machine every live object costs open files and memory, so all keys share one. A key that
 * moves to another object starts anew: docs/operations.md says what a change of the placement forgets.
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
