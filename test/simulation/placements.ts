import type { Network } from "./network";

/** Keys with more than one object: whatever layers count by a key, and whoever asks, one object holds all of it. */
export function dividedKeys({ executions, overrideChanges, forgottenKeys }: Network): string[] {
  const objects = new Map<string, Set<string>>();
  const note = (key: string, object: string) => objects.set(key, (objects.get(key) ?? new Set()).add(object));
  for (const { object, call } of executions) for (const { key } of call.question.counters) note(key, object);
  for (const { key, object } of [...overrideChanges, ...forgottenKeys]) note(key, object);
  return [...objects]
    .filter(([, names]) => names.size > 1)
    .map(([key, names]) => `${key} has ${names.size} objects: ${[...names].join(", ")}`);
}
