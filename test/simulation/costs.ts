import type { Cost } from "../../src/core/cost";

/** Costs by layer, for the judges. Shares no code with what they judge. */

/** What a request weighs in a layer. Layers that it does not name weigh 1. */
export function costFor(cost: Cost, layer: string): number {
  return typeof cost === "number" ? cost : (new Map(Object.entries(cost)).get(layer) ?? 1);
}

/** What a settle sets in a layer. Undefined if the layer keeps its cost. */
export function settledFor(cost: Cost, layer: string): number | undefined {
  return typeof cost === "number" ? cost : new Map(Object.entries(cost)).get(layer);
}

/** Whether two costs weigh the same in all of these counters. */
export function isSameFor(counters: readonly { readonly layer: string }[], one: Cost, other: Cost): boolean {
  return counters.every(({ layer }) => costFor(one, layer) === costFor(other, layer));
}

/** Whether two costs of decisions over the same layers are the same. */
export function isSameCost(one: Cost, other: Cost): boolean {
  if (typeof one === "number" && typeof other === "number") return one === other;
  const named = [one, other].flatMap((cost) => (typeof cost === "number" ? [] : Object.keys(cost)));
  return isSameFor(
    named.map((layer) => ({ layer })),
    one,
    other,
  );
}
