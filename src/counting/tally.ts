/**
 * The outcomes of a consume. Each consume is counted once.
 *
 * - `denied_at_edge`: denied by the denial cache, without asking an object.
 * - `shadow_denied`: admitted, but the layers in shadow would have denied it.
 * - `degraded`: admitted because an object was unreachable.
 * - `error`: not decided, because an object was unreachable or because of another fault.
 */
export const OUTCOMES = [
  "allowed",
  "denied",
  "denied_at_edge",
  "shadow_denied",
  "degraded",
  "replayed",
  "error",
] as const;
export type DecisionOutcome = (typeof OUTCOMES)[number];

/** The outcomes that a layer can be a reason for. */
export const LAYER_OUTCOMES = ["denied", "denied_at_edge", "shadow_denied"] as const satisfies DecisionOutcome[];

export type Tally = { [O in DecisionOutcome]?: number };

/** By name. A policy (`chat`) has the number of its consumes, a layer (`chat/caller`) how often it was a reason. */
export type Tallies = Map<string, Tally>;

export function countIn(tallies: Tallies, name: string, outcome: DecisionOutcome, count = 1): void {
  const tally = tallies.get(name);
  if (tally) tally[outcome] = (tally[outcome] ?? 0) + count;
  else tallies.set(name, { [outcome]: count });
}

export function addTallies(sum: Tallies, more: Tallies): void {
  for (const [name, tally] of more)
    for (const outcome of OUTCOMES) if (tally[outcome]) countIn(sum, name, outcome, tally[outcome]);
}

/** The most denied keys in a sketch: of an isolate for a few seconds, of an hour in storage, of a day in a report. */
export const MOST_DENIED_KEYS = 256;
