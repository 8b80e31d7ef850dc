/** What a key holds of an id that a request brings again. */
export interface HeldId {
  /** The id is known: by the clock of this object, its event is younger than the policy's longest window. */
  readonly isInWindow: boolean;
  /** The attempts that dated the event: recorded it, or moved it to their own time. */
  readonly makers: readonly string[];
  /** The attempts that dated an older event of the id here: of an earlier decision, or left by a fault. */
  readonly earlierMakers: readonly string[];
  /** The layers that took part in the decision. Empty where they are unknown: then all layers count as parts. */
  readonly layers: readonly string[];
  /** The event was recorded while its layer was in the other mode, live or in shadow. */
  readonly isOtherMode: boolean;
  /** The event belongs to another decision: of another policy, or at another cost. */
  readonly conflicts: boolean;
}

/**
 * What an id is to a decision, judged once for all of its layers:
 * - `new`: the id is not known. It must be charged in every layer;
 * - `known`: the id was admitted as a whole. Nothing is charged; layers that took no part stay as they are;
 * - `torn`: the id is known, but no attempt has charged it everywhere: a fault or a reset has left a layer out, or another
 *   attempt is in flight. It must be charged in every layer, as of now;
 * - `conflict`: the id is known as another decision.
 */
export type Recognition = "new" | "known" | "torn" | "conflict";

/**
 * Judges an id by what the key of each layer holds of it, in the policy's order. Undefined where a key holds nothing, or only
 * the charge of the attempt that asks.
 *
 * A known id was admitted as a whole if some attempt has dated its event in every layer that took part. An attempt that was
 * denied never has: the object that denied it holds nothing of it, and accepts no late call of it. So a known id counts from
 * instants at which an attempt was made that was not denied.
 */
export function recognise(layers: readonly string[], held: readonly (HeldId | undefined)[]): Recognition {
  const judge = judgeOf(layers, held);
  if (!judge) return "new";
  if (judge.conflicts) return "conflict";
  const isHeldEverywhere = (maker: string) =>
    layers.every((layer, i) => !tookPart(judge, layer) || held[i]?.makers.includes(maker) === true);
  return judge.makers.some(isHeldEverywhere) ? "known" : "torn";
}

/**
 * What the judging layer knows of the id; undefined if it does not know the id. The first layer judges alone, so that one
 * object's clock decides. It is passed over only if it took no part in a decision that a later layer knows: it was added,
 * or put live, afterwards.
 */
function judgeOf(layers: readonly string[], held: readonly (HeldId | undefined)[]): HeldId | undefined {
  // A layer that was in the other mode took no part in the decision of the others, unless all have changed modes together.
  const hasSameMode = held.some((id) => id?.isInWindow && !id.isOtherMode);
  const known = held.map((id) => (id?.isInWindow && !(hasSameMode && id.isOtherMode) ? id : undefined));
  for (const [i, layer] of layers.entries()) {
    if (known[i]) return known[i];
    const later = known.slice(i + 1).find((id) => id !== undefined);
    if (!later || tookPart(later, layer)) return undefined;
  }
  return undefined;
}

/** The attempts that made the id's previous decision. They are no part of the decision that is to be charged now. */
export function earlierMakersOf(recognition: Recognition, first: HeldId | undefined): readonly string[] {
  if (!first) return [];
  const isSameDecision = recognition === "torn" && first.isInWindow;
  return isSameDecision ? first.earlierMakers : [...first.earlierMakers, ...first.makers];
}

function tookPart({ layers }: HeldId, layer: string): boolean {
  return layers.length === 0 || layers.includes(layer);
}
