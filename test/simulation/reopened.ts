import type { Call, CallResult } from "../../src/object/protocol";
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
  decide: () => CallResult[],
): { results: CallResult[]; difference: string | undefined } {
  // It has not been at a later time yet, as the one in memory may have.
  const nowMs = Math.max(wallMs, object.usedMs);
  const reread = object.disk.trial(() => newLedger(object.disk.open(), machine).decide(calls, nowMs));
  const results = decide();
  if (results.some((result) => "error" in result)) return { results, difference: undefined };
  const [first, firstReread] = [results[0], reread[0]].map((result) =>
    result && "verdict" in result ? result.verdict.atMs : 0,
  );
  if ((first ?? 0) > (firstReread ?? 0)) return { results, difference: undefined };
  // Which attempts it has ended, it knows in this life alone.
  if (calls.some((call) => object.ended.has(attemptOf(call) ?? ""))) return { results, difference: undefined };
  const at = results.findIndex((result, i) => JSON.stringify(result) !== JSON.stringify(reread[i]));
  if (at < 0) return { results, difference: undefined };
  const [call, answer, other] = [calls[at], results[at], reread[at]].map((one) => JSON.stringify(one));
  const difference = `${object.name} answered ${call} by ${answer}; read back from storage it answers ${other}`;
  return { results, difference };
}
