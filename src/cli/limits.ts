import type { Config } from "../config/config";
import type { KeyPlacement } from "../config/placement";

/** The limits in force and the placement of keys, a line each. */
export function limitLines({ policies, placement }: Config): string[] {
  const layers = [...policies.values()].flatMap(({ name, layers }) =>
    layers.map((layer) => {
      const limits = layer.limits.map(
        ({ kind, max, windowMs }) => `${max}${kind ? ` ${kind}` : ""} per ${windowMs / 1_000} s`,
      );
      const inShadow = layer.mode === "shadow" ? " (in shadow)" : "";
      return `${name} / ${layer.name}${inShadow}, by ${layer.by.join(", else ")}: ${limits.join(", ")}`;
    }),
  );
  const attributes = [...(placement.attributes ?? [])];
  return [
    ...layers,
    ...attributes.map(([attribute, own]) => `Keys of ${attribute} ${objectsOf(own)}.`),
    `${attributes.length > 0 ? "All other keys" : "All keys"} ${objectsOf(placement)}.`,
  ];
}

/** The attributes that a variable names and no layer counts by. */
export function uncountedAttributes({ policies, placement, gate }: Config): { variable: string; attribute: string }[] {
  const counted = new Set([...policies.values()].flatMap(({ layers }) => layers.flatMap(({ by }) => by)));
  const named = { LIMITER_PLACEMENT: placement.attributes, LIMITER_GATE: gate?.headers };
  return Object.entries(named).flatMap(([variable, attributes]) =>
    [...(attributes?.keys() ?? [])]
      .filter((attribute) => !counted.has(attribute))
      .map((attribute) => ({ variable, attribute })),
  );
}

function objectsOf(placement: KeyPlacement): string {
  if (placement.kind === "key") return "have an object each";
  return placement.count === 1 ? "share one object" : `share ${placement.count} objects`;
}
