import { byLayer, type Cost, costIn, namedCostIn } from "../core/cost";
import type { Policy } from "../core/policy";
import { type InvalidField, pointerOf } from "./refusal";

/** Costs by layer, as requests have them. */

export function layerNames({ layers }: Policy): string[] {
  return layers.map(({ name }) => name);
}

/** The names in a cost that no layer has. */
export function mistakesInCost(cost: Readonly<Record<string, unknown>>, layers: readonly string[]): InvalidField[] {
  const unknown = Object.keys(cost).filter((name) => !layers.includes(name));
  const detail = `must name a layer: ${layers.join(", ")}`;
  return unknown.map((name) => ({ pointer: pointerOf(["cost", name]), detail }));
}

/** The cost of a decision: if it is by layer, that of every layer of the policy, in its order. */
export function wholeCost(cost: Cost = 1, policy: Policy): Cost {
  return typeof cost === "number" ? cost : byLayer(layerNames(policy), (layer) => costIn(cost, layer));
}

/** The cost of a settle: if it is by layer, that of the layers that it names, in the policy's order. */
export function namedCost(cost: Cost, policy: Policy): Cost {
  if (typeof cost === "number") return cost;
  const named = layerNames(policy).filter((layer) => namedCostIn(cost, layer) !== undefined);
  return byLayer(named, (layer) => costIn(cost, layer));
}
