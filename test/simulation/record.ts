import type { KeyOverride } from "../../src/core/override";
import type { Decision, DecisionLimit } from "../../src/limiter/decision";
import type {
  Call,
  Counter,
  EventQuestion,
  Method,
  OverrideToSet,
  QuestionOf,
  VerdictOf,
} from "../../src/object/protocol";
import type { ValidChange } from "../../src/request/read";

/** What a history leaves for its judges: on the side of the objects, and on the side of the callers. */

/** A call with the verdict of its object. */
export type DecidedCall = {
  [M in Method]: {
    readonly method: M;
    readonly question: M extends "release" ? EventQuestion : QuestionOf<M>;
    readonly verdict: VerdictOf<M>;
  };
}[Method];

/** One call that an object executed. All executions of a history stand in the order in which they happened. */
export interface Execution {
  readonly object: string;
  readonly wallMs: number;
  readonly call: DecidedCall;
  /** The call is a consume of an attempt that the object had denied or rolled back before. */
  readonly isOfEndedAttempt: boolean;
  /** Set once the writes are durable. An execution that is never committed counts for nothing. */
  isCommitted: boolean;
}

/** An override that an object set or lifted. */
export interface OverrideChange {
  readonly object: string;
  readonly key: string;
  readonly wallMs: number;
  /** Undefined lifts the override. */
  readonly requested: OverrideToSet | undefined;
  readonly stored: KeyOverride | undefined;
  /** How many executions happened before. */
  readonly executionsBefore: number;
  /** Set once the write is durable. A change that is never committed counts for nothing. */
  isCommitted: boolean;
}

/** A key that an object forgot, because an admin wanted it to. */
export interface ForgottenKey {
  readonly object: string;
  readonly key: string;
  /** How many executions happened before. */
  readonly executionsBefore: number;
  /** Set once the deletion is durable. A deletion that is never committed counts for nothing. */
  isCommitted: boolean;
}

/** Where a call stands in a batch. */
export interface BatchPosition {
  readonly batch: string;
  readonly index: number;
  /** The caller sends this call for the first time, and only once in this batch. */
  readonly isFirst: boolean;
}

/** A call that got an answer: the request, the isolate that decided it, and the decision as its caller received it. */
export interface AnsweredCall {
  readonly op: "consume" | "check" | "settle" | "release";
  readonly isolate: number;
  /** The id of a check is empty. */
  readonly request: ValidChange & { readonly isNew?: boolean };
  readonly decision: Pick<Decision, "allowed" | "replayed" | "limits"> &
    Partial<Pick<Decision, "wouldDeny" | "isCached">>;
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  /** How many executions had happened when the call was sent, and when it was answered. */
  readonly executionsBefore: number;
  readonly executionsAfter: number;
  /** Set for a call of a batch. */
  readonly batchPosition?: BatchPosition;
}

/** Names an event, or the event that a call is about. */
export function eventNameOf({ id, identity }: Pick<EventQuestion, "id" | "identity">): string {
  return `${id} ${identity}`;
}

/** Whether `reported` has every limit in force of the counter. */
export function hasEveryLimit({ layer, key, limits }: Counter, reported: readonly DecisionLimit[]): boolean {
  const own = reported.filter((limit) => limit.layer === layer && limit.key === key);
  return own.length === (own[0]?.override?.limits ?? limits).length;
}

/** Names the attempt that a consume or its rollback belongs to. */
export function attemptNameOf(call: Call): string | undefined {
  return call.method === "consume" || call.method === "rollBack"
    ? `${call.question.attempt} ${call.question.id}`
    : undefined;
}
