/** What a request weighs: the same in every layer, or by the name of the layer. A layer that is not named weighs 1. */
export type Cost = number | CostByLayer;
export type CostByLayer = Readonly<Record<string, number>>;

/** What a request weighs in a layer. */
export function costIn(cost: Cost, layer: string): number {
  return typeof cost === "number" ? cost : (namedCostIn(cost, layer) ?? 1);
}

/** The cost of a layer that is named. A layer may be called `constructor`. */
export function namedCostIn(cost: CostByLayer, layer: string): number | undefined {
  return Object.hasOwn(cost, layer) ? cost[layer] : undefined;
}

/** The same cost among these layers alone: a number if they all weigh the same. */
export function costAmong(cost: Cost, layers: readonly string[]): Cost {
  return typeof cost === "number" ? cost : simplest(byLayer(layers, (layer) => costIn(cost, layer)));
}

/** The same cost among these counters alone. Makes nothing of a number, which most costs are. */
export function costOfCounters(cost: Cost, counters: readonly { readonly layer: string }[]): Cost {
  if (typeof cost === "number") return cost;
  return costAmong(
    cost,
    counters.map(({ layer }) => layer),
  );
}

/** The cost of each of these layers, in their order. */
export function byLayer(layers: readonly string[], costOf: (layer: string) => number): CostByLayer {
  return Object.fromEntries(layers.map((layer) => [layer, costOf(layer)]));
}

/** A number if all layers weigh the same. */
function simplest(cost: CostByLayer): Cost {
  const [first, ...others] = Object.values(cost);
  return first !== undefined && others.every((other) => other === first) ? first : cost;
}

/** The cost of an event of these layers once `settled` holds: layers that are not named keep theirs. */
export function settledCost(cost: Cost, settled: Cost, layers: readonly string[]): Cost {
  if (typeof settled === "number") return settled;
  return simplest(byLayer(layers, (layer) => namedCostIn(settled, layer) ?? costIn(cost, layer)));
}

/** Whether both costs weigh the same in all of these layers. */
export function isSameCost(a: Cost, b: Cost, layers: readonly string[]): boolean {
  if (typeof a === "number" && typeof b === "number") return a === b;
  return layers.every((layer) => costIn(a, layer) === costIn(b, layer));
}

/** The largest cost in one of these layers. */
export function largestCost(cost: Cost, layers: readonly string[]): number {
  return typeof cost === "number" ? cost : Math.max(...layers.map((layer) => costIn(cost, layer)));
}
