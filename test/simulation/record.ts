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

/** A call that was answered. */
export type Done = {
  [M in Method]: {
    readonly method: M;
    readonly question: M extends "release" ? EventQuestion : QuestionOf<M>;
    readonly verdict: VerdictOf<M>;
  };
}[Method];

/** What objects did, in the order in which they did it: for the judge. */
export interface Deed {
  readonly object: string;
  readonly wallMs: number;
  readonly what: Done;
  /** It is a consume whose attempt the object has denied or rolled back before. */
  readonly isEnded: boolean;
  /** Set when what was written is durable; of what never is, nothing counts. */
  committed: boolean;
}

/** What an object was ordered about the override of a key, and did. */
export interface Order {
  readonly object: string;
  readonly key: string;
  readonly wallMs: number;
  /** Undefined lifts what there is. */
  readonly asked: OverrideToSet | undefined;
  readonly set: KeyOverride | undefined;
  /** How many deeds were done before it. */
  readonly at: number;
  /** Set when it is durable; of what never is, nothing counts. */
  committed: boolean;
}

/** A key that an object was made to forget. */
export interface Forgetting {
  readonly object: string;
  readonly key: string;
  /** How many deeds were done before it. */
  readonly at: number;
  /** Set when it is durable; of what never is, nothing counts. */
  committed: boolean;
}

/** Where a call stands in a batch. */
export interface Place {
  readonly batch: string;
  readonly index: number;
  /** Its caller has not sent it before, nor twice in this batch. */
  readonly isFirst: boolean;
}

/** A call that was answered: what was asked, when and of which isolate, and what its caller was told. */
export interface Told {
  readonly op: "consume" | "check" | "settle" | "release";
  readonly isolate: number;
  /** The id of a check is empty. */
  readonly asked: ValidChange & { readonly isNew?: boolean };
  readonly decided: Pick<Decision, "allowed" | "replayed" | "limits"> &
    Partial<Pick<Decision, "wouldDeny" | "isCached">>;
  readonly askedAtMs: number;
  readonly toldAtMs: number;
  /** How many deeds of the objects there were when it was asked, and when it was told. */
  readonly before: number;
  readonly after: number;
  /** Of a call in a batch: which batch, and where in it. */
  readonly place?: Place;
}

/** Of an event, or of the call that asks about it. */
export function nameOf({ id, identity }: Pick<EventQuestion, "id" | "identity">): string {
  return `${id} ${identity}`;
}

/** Every limit in force of a counter was told. */
export function isWhole({ layer, key, limits }: Counter, told: readonly DecisionLimit[]): boolean {
  const mine = told.filter((limit) => limit.layer === layer && limit.key === key);
  return mine.length === (mine[0]?.override?.limits ?? limits).length;
}

/** Which attempt to charge an id it is. */
export function attemptOf(call: Call): string | undefined {
  return call.method === "consume" || call.method === "rollBack"
    ? `${call.question.attempt} ${call.question.id}`
    : undefined;
}
