import * as z from "zod";
import { attributeSchema } from "./policies";

/** Keys have an object each, or share a fixed number of objects. */
export type KeyPlacement = { readonly kind: "key" } | { readonly kind: "shards"; readonly count: number };

/** The placement of all keys, except those of the attributes that have a placement of their own. */
export type Placement = KeyPlacement & { readonly attributes?: ReadonlyMap<string, KeyPlacement> };

const RULE = "must be key or shards:N, N from 1 to 9999";

/** `key`, `shards:4`, or placements of attributes before that of all others: `ip=shards:8,user=shards:4,key`. */
export const placementSchema = z.string(RULE).transform((text, context): Placement => {
  const { placement, mistakes } = readPlacement(text);
  for (const message of mistakes) context.addIssue({ code: "custom", message });
  return placement ?? z.NEVER;
});

function readPlacement(text: string): { placement: Placement | undefined; mistakes: readonly string[] } {
  const items = text.split(",").map((item) => item.trim());
  const last = items.at(-1) ?? "";
  const others = keyPlacementOf(last);
  const mistakes: string[] = [];
  if (last.includes("=")) mistakes.push("must end with key or shards:N, for all other attributes");
  else if (!others) mistakes.push(items.length === 1 ? RULE : `${JSON.stringify(last)} ${RULE}`);
  if (items.length === 1 && !last.includes("=")) return { placement: others, mistakes };

  const attributes = new Map<string, KeyPlacement>();
  for (const item of last.includes("=") ? items : items.slice(0, -1)) {
    const [, attribute, value = ""] = /^([^=]*?)\s*=\s*(.*)$/s.exec(item) ?? [];
    const placement = keyPlacementOf(value);
    if (attribute === undefined) mistakes.push(`${JSON.stringify(item)} must have an attribute and = before it`);
    else if (!attributeSchema.safeParse(attribute).success)
      mistakes.push(`${JSON.stringify(item)} must begin with an attribute: 1 to 64 of a-z, 0-9 and _`);
    else if (attributes.has(attribute)) mistakes.push(`must not place ${attribute} twice`);
    if (attribute !== undefined && !placement)
      mistakes.push(`${JSON.stringify(item)} must have key or shards:N after =, N from 1 to 9999`);
    attributes.set(attribute ?? "", placement ?? { kind: "key" });
  }
  return { placement: others && { ...others, attributes }, mistakes };
}

function keyPlacementOf(text: string): KeyPlacement | undefined {
  if (text === "key") return { kind: "key" };
  const count = Number(/^shards:([1-9]\d{0,3})$/.exec(text)?.[1]);
  return count >= 1 ? { kind: "shards", count } : undefined;
}
