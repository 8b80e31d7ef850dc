import type { Config } from "../../src/config/config";
import { objectOf } from "../../src/objects/placement";
import type { Network } from "./network";
import { type AnsweredCall, type Execution, eventNameOf } from "./record";

/** Longest time of a batch call without faults: at most three round trips of at most 46 ms each, and some slack. */
const PROMPT_MS = 250;
/** How long before a call a fault may still affect the object when the call arrives. */
const FAULT_ECHO_MS = 100;

/**
 * Calls of a batch that waited for objects that they do not need: their own objects had no fault. A denied call may wait
 * for an earlier call whose charge was in its way and may be rolled back, and may be decided again afterwards.
 */
export function delayedCalls(
  answered: readonly AnsweredCall[],
  { objects, executions }: Network,
  { placement }: Config,
): string[] {
  const isFaulty = (key: string, { sentAtMs, answeredAtMs }: AnsweredCall) =>
    objects.get(objectOf(key, placement))?.faultsAtMs.some((ms) => ms > sentAtMs - FAULT_ECHO_MS && ms <= answeredAtMs);
  return answered
    .filter(({ op, batchPosition, request, decision, sentAtMs, answeredAtMs }) => {
      // No execution shows which check it belongs to, so nobody can tell whether a check was decided again.
      const isJudged = batchPosition && op !== "check" && decision.allowed && request.shadow.length === 0;
      return isJudged && answeredAtMs - sentAtMs > PROMPT_MS;
    })
    .filter(
      (call) => !call.request.counters.some(({ key }) => isFaulty(key, call)) && !isDecidedAgain(call, executions),
    )
    .map(
      ({ op, request, sentAtMs, answeredAtMs }) =>
        `a batch held up ${op} ${request.id} for ${answeredAtMs - sentAtMs} ms`,
    );
}

function isDecidedAgain(
  { request, executionsBefore, executionsAfter }: AnsweredCall,
  executions: readonly Execution[],
): boolean {
  const objects = executions
    .slice(executionsBefore, executionsAfter)
    .filter(({ call }) => call.method === "consume" && eventNameOf(call.question) === eventNameOf(request))
    .map(({ object }) => object);
  return new Set(objects).size < objects.length;
}
