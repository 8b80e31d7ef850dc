import type { Placement } from "../config/config";
import type { Answer, AskedCounter, ChargeAnswer, Question } from "../object/protocol";
import { objectOf } from "./placement";

/** The counters of a decision that live in one object, and where they stand in the policy. */
export interface Part {
  readonly object: string;
  readonly counters: AskedCounter[];
  readonly indexes: number[];
}

/** A question, divided by the objects that hold its counters. */
export function partsOf({ counters }: Question, placement: Placement): Part[] {
  const parts = new Map<string, Part>();
  counters.forEach((counter, index) => {
    const object = objectOf(counter.key, placement);
    const part = parts.get(object) ?? { object, counters: [], indexes: [] };
    part.counters.push(counter);
    part.indexes.push(index);
    parts.set(object, part);
  });
  return [...parts.values()];
}

/** What the answers of all parts say of each counter, in the order asked: `none` where a part is silent about it. */
export function placed<A extends Answer, T>(
  parts: readonly Part[],
  answers: readonly (A | undefined)[],
  told: (answer: A, counter: number) => T | undefined,
  none: T,
): T[] {
  const all: T[] = [];
  parts.forEach(({ indexes }, p) => {
    const answer = answers[p];
    indexes.forEach((index, i) => {
      all[index] = (answer && told(answer, i)) ?? none;
    });
  });
  return all;
}

/** The answers of all parts as one, which admits if every part does that is not silent. */
export function join(parts: readonly Part[], answers: readonly (Answer | undefined)[]): Answer {
  const known = answers.filter((answer) => answer !== undefined);
  return {
    allowed: known.every(({ allowed }) => allowed),
    atMs: Math.max(...known.map(({ atMs }) => atMs)),
    standings: placed(parts, answers, ({ standings }, i) => standings[i], []),
    ...(known.some(({ overrides }) => overrides) && {
      overrides: placed(parts, answers, ({ overrides }, i) => overrides?.[i], null),
    }),
    ...(known.every(({ leavings }) => leavings) && {
      leavings: placed(parts, answers, ({ leavings }, i) => leavings?.[i], []),
    }),
  };
}

/** The same of a charge: the first part says what its layer knows of the id. */
export function joinCharge(parts: readonly Part[], answers: readonly (ChargeAnswer | undefined)[]): ChargeAnswer {
  const [judge] = answers;
  const { replayed = false, conflicts = false, charged = true } = judge ?? {};
  return { ...join(parts, answers), replayed, conflicts, charged };
}
