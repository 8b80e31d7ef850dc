import type { Call, Outcome } from "../../src/object/protocol";
import type { ObjectDisk } from "./disk";
import { attemptOf } from "./record";
import { type Machine, newLedger } from "./system";

interface Reopened {
  readonly name: string;
  readonly disk: ObjectDisk;
  /** The latest time that it is known to have used since it was opened. */
  readonly usedMs: number;
  /** The attempts that it has denied or rolled back in this life. */
  readonly ended: ReadonlySet<string>;
}

/**
 * An object in memory and the same one read back from storage decide and tell the same. The calls are decided twice: by an
 * object that is opened anew on the same disk, all of which is taken back, and by the one that there is. What is compared
 * are answers as they are, whatever they say.
 */
export function differenceIn(
  object: Reopened,
  calls: readonly Call[],
  wallMs: number,
  machine: Machine,
  decide: () => Outcome[],
): { outcomes: Outcome[]; difference: string | undefined } {
  // It has not been at a later time yet, as the one in memory may have.
  const nowMs = Math.max(wallMs, object.usedMs);
  const reread = object.disk.trial(() => newLedger(object.disk.open(), machine).decide(calls, nowMs));
  const outcomes = decide();
  if (outcomes.some((outcome) => "error" in outcome)) return { outcomes, difference: undefined };
  const [first, firstReread] = [outcomes[0], reread[0]].map((one) => (one && "answer" in one ? one.answer.atMs : 0));
  if ((first ?? 0) > (firstReread ?? 0)) return { outcomes, difference: undefined };
  // Which attempts it has ended, it knows in this life alone.
  if (calls.some((call) => object.ended.has(attemptOf(call) ?? ""))) return { outcomes, difference: undefined };
  const at = outcomes.findIndex((outcome, i) => JSON.stringify(outcome) !== JSON.stringify(reread[i]));
  if (at < 0) return { outcomes, difference: undefined };
  const [call, answer, other] = [calls[at], outcomes[at], reread[at]].map((one) => JSON.stringify(one));
  const difference = `${object.name} answered ${call} by ${answer}; read back from storage it answers ${other}`;
  return { outcomes, difference };
}
