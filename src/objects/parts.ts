import type { Placement } from "../config/config";
import type { ChargeVerdict, Counter, ObjectVerdict, Question } from "../object/protocol";
import { objectOf } from "./placement";

/** The counters of one request that live in one object. */
export interface Part {
  readonly object: string;
  readonly counters: Counter[];
  /** The place of each counter in the request. */
  readonly indexes: number[];
}

/** Divides a question by the objects that hold its counters. */
export function partsOf({ counters }: Question, placement: Placement): Part[] {
  const parts: Part[] = [];
  for (const [index, counter] of counters.entries()) {
    const object = objectOf(counter.key, placement);
    const part = parts.find((part) => part.object === object);
    part?.counters.push(counter);
    part?.indexes.push(index);
    if (!part) parts.push({ object, counters: [counter], indexes: [index] });
  }
  return parts;
}

/** What the verdicts of all parts say of each counter, in the request's order. `none` stands for a part without a verdict. */
export function byCounter<V extends ObjectVerdict, T>(
  parts: readonly Part[],
  verdicts: readonly (V | undefined)[],
  pick: (verdict: V, counter: number) => T | null | undefined,
  none: T,
): T[] {
  const values: T[] = [];
  parts.forEach(({ indexes }, p) => {
    const verdict = verdicts[p];
    indexes.forEach((index, i) => {
      values[index] = (verdict && pick(verdict, i)) ?? none;
    });
  });
  return values;
}

/** Joins the verdicts of all parts. The request is allowed if every part that has a verdict allows it. */
export function joinVerdicts(parts: readonly Part[], verdicts: readonly (ObjectVerdict | undefined)[]): ObjectVerdict {
  const given = verdicts.filter((verdict) => verdict !== undefined);
  return {
    allowed: given.every(({ allowed }) => allowed),
    atMs: Math.max(...given.map(({ atMs }) => atMs)),
    standings: byCounter(parts, verdicts, ({ standings }, i) => standings[i], []),
    ...(given.some(({ overrides }) => overrides) && {
      overrides: byCounter(parts, verdicts, ({ overrides }, i) => overrides?.[i], null),
    }),
    ...(given.every(({ leavings }) => leavings) && {
      leavings: byCounter(parts, verdicts, ({ leavings }, i) => leavings?.[i], []),
    }),
  };
}

/** Joins the verdicts of a charge. The first part says whether its layer knew the id. */
export function joinCharges(parts: readonly Part[], verdicts: readonly (ChargeVerdict | undefined)[]): ChargeVerdict {
  const { replayed = false, conflicts = false, charged = true } = verdicts[0] ?? {};
  return { ...joinVerdicts(parts, verdicts), replayed, conflicts, charged };
}
