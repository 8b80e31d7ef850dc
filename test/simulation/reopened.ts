import type { Call, CallResult } from "../../src/object/protocol";
import type { ObjectDisk } from "./disk";
import { attemptNameOf } from "./record";
import { type Machine, newLedger } from "./system";

interface RunningObject {
  readonly name: string;
  readonly disk: ObjectDisk;
  /** The latest time that the object is known to have used since it was opened. */
  readonly usedMs: number;
  /** The attempts that the object has denied or rolled back since it was opened. */
  readonly endedAttempts: ReadonlySet<string>;
}

/**
 * Compares an object in memory with the same object read back from storage: both must give the same results. The calls are
 * decided twice: by a new object on the same disk, whose writes are rolled back, and then by the running object. Results
 * are compared as text, right or wrong.
 */
export function compareWithReopened(
  object: RunningObject,
  calls: readonly Call[],
  wallMs: number,
  machine: Machine,
  decide: () => CallResult[],
): { results: CallResult[]; difference: string | undefined } {
  // The running object may have used a later time than the clock shows now. The new object has not.
  const nowMs = Math.max(wallMs, object.usedMs);
  const reopened = object.disk.trial(() => newLedger(object.disk.open(), machine).decide(calls, nowMs));
  const results = decide();
  if (results.some((result) => "error" in result)) return { results, difference: undefined };
  const [firstMs, firstReopenedMs] = [results[0], reopened[0]].map((result) =>
    result && "verdict" in result ? result.verdict.atMs : 0,
  );
  if ((firstMs ?? 0) > (firstReopenedMs ?? 0)) return { results, difference: undefined };
  // Ended attempts are known in memory only.
  if (calls.some((call) => object.endedAttempts.has(attemptNameOf(call) ?? "")))
    return { results, difference: undefined };
  const i = results.findIndex((result, i) => JSON.stringify(result) !== JSON.stringify(reopened[i]));
  if (i < 0) return { results, difference: undefined };
  const [call, result, reopenedResult] = [calls[i], results[i], reopened[i]].map((value) => JSON.stringify(value));
  const difference = `${object.name} decided ${call} as ${result}, but as ${reopenedResult} when read back from storage`;
  return { results, difference };
}
