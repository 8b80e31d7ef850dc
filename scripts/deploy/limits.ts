import type { Config } from "../../src/config/config";

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
  return [...layers, placement.kind === "key" ? "One object per key." : `All keys share ${placement.count} objects.`];
}
