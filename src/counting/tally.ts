/**
 * What became of a decision, each of which is counted once.
 *
 * - `denied_at_edge`: denied, as an object had said before, without asking it again.
 * - `shadow_denied`: admitted, and layers that are only tried out would have denied it.
 * - `degraded`: admitted because no object could be reached; `error`: not decided for that or for another fault.
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

/** Those of them that a layer is a reason of. */
export const LAYER_OUTCOMES = ["denied", "denied_at_edge", "shadow_denied"] as const satisfies DecisionOutcome[];

export type Tally = { [O in DecisionOutcome]?: number };

/** Of policies, `chat`, how many decisions; of layers, `chat/caller`, how often they were a reason. */
export type Tallies = Map<string, Tally>;

export function countIn(tallies: Tallies, name: string, outcome: DecisionOutcome, count = 1): void {
  const known = tallies.get(name);
  if (known) known[outcome] = (known[outcome] ?? 0) + count;
  else tallies.set(name, { [outcome]: count });
}

export function addTallies(sum: Tallies, more: Tallies): void {
  for (const [name, tally] of more)
    for (const outcome of OUTCOMES) if (tally[outcome]) countIn(sum, name, outcome, tally[outcome]);
}

/** Denied keys that are remembered at most: by an isolate for a few seconds, in storage for an hour, told for a day. */
export const MOST_DENIED_KEYS = 256;
