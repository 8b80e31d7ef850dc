import type { DecisionLimit } from "../../src/limiter/decision";
import { groupBy } from "../../tools/group-by";
import { isSameFor } from "./costs";
import type { Leaving } from "./model";
import type { AnsweredForget } from "./overrides";
import { type AnsweredCall, type DecidedCall, type Execution, eventNameOf, hasEveryLimit } from "./record";
import { shadowEventNameOf } from "./shadows";

/** What each limit counted at an execution, and when it leaves the window: by counter, then by limit. */
export type LeavingsByExecution = Map<Execution, readonly (readonly (readonly Leaving[])[])[]>;

/** How long a call may wait for a concurrent revalidation of a denial before it asks the objects itself. */
const LONGEST_SINGLE_FLIGHT_WAIT_MS = 50;

/**
 * Answers without a source. An answer comes from the objects, which decided this very call; or it is a denial that the
 * isolate got from the objects shortly before and cached, counted down, whether or not its caller still heard of it. The
 * network takes at least a millisecond, so an answer within the same millisecond did not come from the objects. Without live
 * layers everything is admitted, at once if the objects of the layers in shadow are overloaded and left alone.
 */
export function answersWithoutSource(
  answered: readonly AnsweredCall[],
  unheard: readonly AnsweredCall[],
  adminCalls: readonly AnsweredForget[],
  executions: readonly Execution[],
  denyCacheMs: number,
  leavings: LeavingsByExecution,
): string[] {
  const decided = [...answered, ...unheard];
  const hasSource = (call: AnsweredCall) =>
    (call.request.counters.length === 0 && call.decision.allowed && call.decision.limits.length === 0) ||
    (call.answeredAtMs > call.sentAtMs && isFromObjects(call, executions)) ||
    decided.some(
      (earlier) =>
        earlier !== call &&
        isCachedFrom(earlier, call, decided, adminCalls, denyCacheMs) &&
        isUseCountedDown(earlier, call, executions, leavings),
    );
  return answered
    .filter((call) => !hasSource(call))
    .map(
      (call) => `no source for the answer to ${call.op} ${eventNameOf(call.request)}: ${JSON.stringify(call.decision)}`,
    );
}

function isFromObjects(answered: AnsweredCall, executions: readonly Execution[]): boolean {
  const { decision, request, executionsBefore, executionsAfter } = answered;
  const committed = executions.slice(executionsBefore, executionsAfter).filter(({ isCommitted }) => isCommitted);
  const isReported = (limit: DecisionLimit) =>
    committed.some(({ call }) => isMadeFor(answered, call, limit.isShadow) && reports(call, limit));
  // The live layers decide alone.
  const isExplained = decision.allowed
    ? request.counters.every((counter) => hasEveryLimit(counter, decision.limits))
    : liveLimitsOf(answered).some(({ standing }) => standing.fitsInMs > 0);
  return isExplained && decision.limits.every(isReported);
}

function liveLimitsOf({ decision }: AnsweredCall): DecisionLimit[] {
  return decision.limits.filter(({ isShadow }) => !isShadow);
}

/** Whether an object's call was made for the caller's call. Checks of the same cost look all alike. */
function isMadeFor(answered: AnsweredCall, { method, question }: DecidedCall, isShadow: boolean): boolean {
  const { op, request, batchPosition } = answered;
  // A consume may be checked first: a new one, if a lower cost was denied shortly before; one of a batch, when it is decided
  // again; and in shadow, if the live layers denied it.
  const mayCheck =
    op === "check" || (op === "consume" && (isShadow || request.isNew === true || batchPosition !== undefined));
  if (method === "check") return isSameFor(question.counters, question.cost, request.cost) && mayCheck;
  const isSameKind = (change: string) => (op === change) === (method === change);
  const name = isShadow ? shadowEventNameOf(answered) : eventNameOf(request);
  return isSameKind("settle") && isSameKind("release") && eventNameOf(question) === name;
}

/** Whether the verdict has this limit with this standing. */
function reports(
  { question, verdict }: DecidedCall,
  { layer, key, limit, standing, override }: DecisionLimit,
): boolean {
  return question.counters.some((counter, c) => {
    const counterOverride = verdict.overrides?.[c] ?? undefined;
    return (
      counter.key === key &&
      counter.layer === layer &&
      isSame(counterOverride, override) &&
      (counterOverride?.limits ?? counter.limits).some(
        (counterLimit, l) => isSame(counterLimit, limit) && isSame(verdict.standings[c]?.[l], standing),
      )
    );
  });
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Whether `call` may be answered by the denial of `earlier`, which no call through the same isolate has invalidated. */
function isCachedFrom(
  earlier: AnsweredCall,
  call: AnsweredCall,
  answered: readonly AnsweredCall[],
  adminCalls: readonly AnsweredForget[],
  denyCacheMs: number,
): boolean {
  const { request, decision, answeredAtMs: nowMs } = call;
  if (call.op !== "consume" || request.isNew !== true || decision.allowed) return false;
  if (
    earlier.op !== "consume" ||
    earlier.decision.allowed ||
    !isSameFor(request.counters, earlier.request.cost, request.cost)
  )
    return false;
  // Live layers can't tell subjects apart that they count by the same keys.
  const hasSameCounters = (other: AnsweredCall) =>
    other.isolate === call.isolate && isSame(other.request.counters, request.counters);
  // A denial is cached when the live layers have answered. Layers in shadow are asked afterwards, so the caller is answered later.
  const hasShadow = request.policy.layers.some(({ mode }) => mode === "shadow");
  if (!hasSameCounters(earlier) || (hasShadow ? earlier.sentAtMs : earlier.answeredAtMs) > nowMs) return false;
  // The earlier call may have waited for a concurrent one before it asked.
  const mayHaveWaited = answered.some(
    (other) => other !== earlier && hasSameCounters(other) && overlap(other, earlier),
  );
  const decidedFromMs =
    earlier.sentAtMs + (mayHaveWaited && !earlier.batchPosition ? LONGEST_SINGLE_FLIGHT_WAIT_MS : 0);
  const longestWaitMs = Math.max(...liveLimitsOf(earlier).map(({ standing }) => standing.fitsInMs));
  if (nowMs - decidedFromMs >= Math.min(denyCacheMs, longestWaitMs)) return false;
  const makesRoom = ({ op }: AnsweredCall) => op === "settle" || op === "release";
  // A change makes room when the live layers have answered.
  const isBetween = (other: Pick<AnsweredCall, "sentAtMs" | "answeredAtMs">) =>
    decidedFromMs < (hasShadow ? other.sentAtMs : other.answeredAtMs) && other.answeredAtMs < nowMs;
  const isAboutSameKey = ({ isolate, key }: AnsweredForget) =>
    isolate === call.isolate && request.counters.some((counter) => counter.key === key);
  const isInvalidated =
    answered.some((other) => makesRoom(other) && hasSameCounters(other) && isBetween(other)) ||
    adminCalls.some((other) => isAboutSameKey(other) && isBetween(other));
  const leastMs = Math.max(0, nowMs - earlier.answeredAtMs);
  const elapsedMs: Span = [leastMs, hasShadow ? nowMs - earlier.sentAtMs : leastMs];
  return (
    !isInvalidated && decision.limits.every((limit, i) => isWaitCountedDown(liveLimitsOf(earlier)[i], limit, elapsedMs))
  );
}

/** Whether what has left each window since the denial is no longer in use. */
function isUseCountedDown(
  earlier: AnsweredCall,
  call: AnsweredCall,
  executions: readonly Execution[],
  leavings: LeavingsByExecution,
): boolean {
  const [leastMs, mostMs] = [call.answeredAtMs - earlier.answeredAtMs, call.answeredAtMs - earlier.sentAtMs];
  const possible = executions.slice(earlier.executionsBefore, earlier.executionsAfter);
  return liveLimitsOf(earlier).every((limit, i) => {
    const used = call.decision.limits[i]?.standing.used ?? -1;
    return possible.some((execution) => {
      if (!execution.isCommitted || !isMadeFor(earlier, execution.call, false)) return false;
      const counted = countedBy(execution, limit, leavings);
      const usedAfter = (ms: number) =>
        counted?.filter(({ inMs }) => inMs > ms).reduce((sum, { weight }) => sum + weight, 0);
      return isIn([usedAfter(mostMs) ?? 1, usedAfter(leastMs) ?? 0], used);
    });
  });
}

/** What the limit counted at an execution that reported its standing. */
function countedBy(
  execution: Execution,
  limit: DecisionLimit,
  leavings: LeavingsByExecution,
): readonly Leaving[] | undefined {
  const { question, verdict } = execution.call;
  const c = question.counters.findIndex(({ layer, key }) => layer === limit.layer && key === limit.key);
  const l = verdict.standings[c]?.findIndex((standing) => isSame(standing, limit.standing)) ?? -1;
  return leavings.get(execution)?.[c]?.[l];
}

function overlap(one: AnsweredCall, other: AnsweredCall): boolean {
  return one.sentAtMs <= other.answeredAtMs && other.sentAtMs <= one.answeredAtMs;
}

/** From the least to the most that is possible. */
type Span = readonly [least: number, most: number];

function isWaitCountedDown(
  earlier: DecisionLimit | undefined,
  { standing, override }: DecisionLimit,
  elapsedMs: Span,
): boolean {
  if (!earlier) return false;
  if (override?.kind !== earlier.override?.kind) return false;
  if (override && earlier.override && !isIn(elapsedMs, earlier.override.endsInMs - override.endsInMs)) return false;
  const [leastElapsedMs, mostElapsedMs] = elapsedMs;
  const waitAfter = (ms: number) => Math.max(0, earlier.standing.fitsInMs - ms);
  return isIn([waitAfter(mostElapsedMs), waitAfter(leastElapsedMs)], standing.fitsInMs);
}

function isIn([least, most]: Span, value: number): boolean {
  return least <= value && value <= most;
}

/** How long after its answer a message of a call may still arrive. */
const LATE_MESSAGE_MS = 4_000;

/**
 * Calls of one batch that one object decided in another order than they stand in, even if a call was lost and retried. The
 * first execution that the object committed counts.
 */
export function batchesOutOfOrder(answered: readonly AnsweredCall[], executions: readonly Execution[]): string[] {
  // A new consume may be checked before it is charged.
  const placed = answered.filter(
    ({ batchPosition, op, request }) => batchPosition?.isFirst && op !== "check" && request.isNew !== true,
  );
  const alike = groupBy(answered, ({ op, request }) => `${op} ${eventNameOf(request)}`);
  const batches = groupBy(
    placed.filter((call) => isDistinct(call, alike.get(`${call.op} ${eventNameOf(call.request)}`) ?? [])),
    ({ batchPosition }) => batchPosition?.batch ?? "",
  );
  return [...batches.values()].flatMap((batch) => {
    const calls = batch.sort((a, b) => (a.batchPosition?.index ?? 0) - (b.batchPosition?.index ?? 0));
    const first = calls.map((call) => firstExecutions(call, executions));
    return calls.flatMap((later, l) =>
      calls
        .slice(0, l)
        .flatMap((earlier, e) =>
          [...(first[l] ?? [])]
            .filter(([object, i]) => (first[e]?.get(object) ?? i) > i)
            .map(
              ([object]) =>
                `${object} decided ${eventNameOf(later.request)} before ${eventNameOf(earlier.request)} of the same batch`,
            ),
        ),
    );
  });
}

/** Whether no other call asked the same at about the same time: executions of two such calls can't be told apart. */
function isDistinct(call: AnsweredCall, alike: readonly AnsweredCall[]): boolean {
  return !alike.some(
    (other) =>
      other !== call && other.sentAtMs <= call.answeredAtMs && other.answeredAtMs + LATE_MESSAGE_MS >= call.sentAtMs,
  );
}

/** The index of the first execution of the call that each object committed. */
function firstExecutions(
  { op, request, executionsBefore, executionsAfter }: AnsweredCall,
  executions: readonly Execution[],
): Map<string, number> {
  const first = new Map<string, number>();
  for (let i = executionsBefore; i < executionsAfter; i++) {
    const { object, call, isCommitted } = executions[i] as Execution;
    if (
      isCommitted &&
      call.method === op &&
      call.method !== "check" &&
      eventNameOf(call.question) === eventNameOf(request)
    )
      if (!first.has(object)) first.set(object, i);
  }
  return first;
}
