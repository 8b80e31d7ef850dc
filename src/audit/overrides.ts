import type { KeyOverride } from "../core/override";
import type { Keys } from "../limiter/keys";
import { Refusal } from "../request/refusal";
import type { Audit } from "./audit";
import type { MaybeOverridden } from "./protocol";

/** A call of an order reaches its object within this time, or never. So an order before a lift can't hold after it. */
const ORDER_ARRIVES_WITHIN_MS = 600_000;

export interface OverridesInForce {
  readonly overridden: readonly { readonly key: string; readonly override: KeyOverride }[];
  /** The keys that may have an override, and whose object could not be reached. */
  readonly unknownKeys: readonly string[];
  /** The key after which to go on. Null at the end. */
  readonly next: string | null;
}

/** What an object says of the override of its key. Undefined if the object could not be reached. */
interface Answer extends MaybeOverridden {
  readonly answer: { readonly override: KeyOverride | undefined } | undefined;
}

/**
 * A page of the overrides in force. The audit knows which keys may have one: orders are recorded before they are carried
 * out. Whether it is in force, its object says: an order may have failed, or another one may have arrived later.
 * @throws Refusal `unreachable` if the audit can't be reached.
 */
export async function overridesInForce(
  audit: Audit,
  keys: Pick<Keys, "overrideOf">,
  after: string,
  most: number,
  nowMs: number,
): Promise<OverridesInForce> {
  const candidates = await audit.overridden(after, most);
  const answers = await Promise.all(candidates.map((candidate) => ask(keys, candidate)));
  // A key whose override was not lifted is asked about until it must have ended: another placement hides it for a while.
  const isOver = ({ answer, isLifted, orderedAtMs }: Answer) =>
    isLifted && answer !== undefined && !answer.override && orderedAtMs + ORDER_ARRIVES_WITHIN_MS < nowMs;
  await audit.dropOverridden(answers.filter(isOver));
  return {
    overridden: answers.flatMap(({ key, answer }) => (answer?.override ? [{ key, override: answer.override }] : [])),
    unknownKeys: answers.filter(({ answer }) => answer === undefined).map(({ key }) => key),
    next: candidates.length === most ? (candidates.at(-1)?.key ?? null) : null,
  };
}

async function ask(keys: Pick<Keys, "overrideOf">, candidate: MaybeOverridden): Promise<Answer> {
  try {
    return { ...candidate, answer: { override: await keys.overrideOf(candidate.key) } };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { ...candidate, answer: undefined };
  }
}
