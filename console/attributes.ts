import type { PolicyState } from "./wire";

/** The attributes of subjects that policies count by. */
export function attributesOf(policies: readonly PolicyState[]): string[] {
  return [...new Set(policies.flatMap(({ layers }) => layers.flatMap(({ by }) => by)))];
}
