/** What a key holds of an id that a request comes with again. */
export interface HeldId {
  /** The id is known: by the clock of this object, its event is younger than the policy's longest window. */
  readonly isInWindow: boolean;
  /** The attempts that dated the event, which counts from an instant while each of them was made. */
  readonly makers: readonly string[];
  /** The attempts that dated an older event of the id here: of a decision before, or one that faults have left. */
  readonly earlierMakers: readonly string[];
  /** The layers that took part in the decision; none where that is not known, and all are taken to. */
  readonly layers: readonly string[];
  /** It was recorded while its layer was in the other mode, live or in shadow. */
  readonly isOtherMode: boolean;
  /** It is another decision: of another policy, or at another cost. */
  readonly conflicts: boolean;
}

/**
 * What an id is to a decision, judged once for all of its layers:
 * - `new`: it is not known, and must be charged in every layer;
 * - `known`: it was admitted as a whole, and nothing is charged; layers that had no part in it stay as they are;
 * - `torn`: it is known, but no attempt has charged it everywhere: a fault or a reset has left something out, or another
 *   attempt is being made just now. It must be charged in every layer, as of now;
 * - `conflict`: it is known as another decision.
 */
export type Recognition = "new" | "known" | "torn" | "conflict";

/**
 * Judges an id by what each layer's key holds of it, in the policy's order: undefined where it holds nothing but perhaps what
 * the very attempt that asks has charged.
 *
 * The first layer judges alone whether the id is known, so that the clock of one object decides. It is passed over only
 * where it had no part in a decision that a later layer knows: it was put live, or added, since.
 *
 * A known id was admitted as a whole if some attempt has dated its event in every layer that took part. An attempt that was told
 * a denial never has: the object that denied it holds nothing of it, and takes no late call of it. Hence whatever is recognised
 * as known counts from instants at which an attempt was made that was not told a denial.
 */
export function recognise(layers: readonly string[], remembered: readonly (HeldId | undefined)[]): Recognition {
  // A layer that was in the other mode had no part in what others decided, but all may have changed modes together.
  const hasOwn = remembered.some((held) => held?.isInWindow && !held.isOtherMode);
  const isKnown = (held: HeldId | undefined) => held?.isInWindow === true && !(hasOwn && held.isOtherMode);
  const isPassedOver = (i: number) => {
    const known = remembered.slice(i + 1).find(isKnown);
    return known !== undefined && !tookPart(known, layers[i]);
  };
  const judge = remembered.find((held, i) => isKnown(held) || !isPassedOver(i));
  if (!judge || !isKnown(judge)) return "new";
  if (judge.conflicts) return "conflict";
  const partakes = layers.map((layer) => tookPart(judge, layer));
  const isWhole = judge.makers.some((maker) =>
    partakes.every((isPart, i) => !isPart || remembered[i]?.makers.includes(maker) === true),
  );
  return isWhole ? "known" : "torn";
}

/**
 * The attempts that made the id's decision before the one that is to be charged now, by what the first layer holds: what
 * they have dated elsewhere is none of this one's.
 */
export function earlierMakers(recognition: Recognition, first: HeldId | undefined): readonly string[] {
  if (!first) return [];
  return recognition === "torn" && first.isInWindow ? first.earlierMakers : [...first.earlierMakers, ...first.makers];
}

/** Whether a layer had a part in the decision that is remembered. */
function tookPart({ layers }: HeldId, layer: string | undefined): boolean {
  return layers.length === 0 || layers.includes(String(layer));
}
