import type { Verdict } from "../core/decide";
import type { Limit } from "../core/limit";
import type { KeyOverride } from "../core/override";
import type { Remembered } from "../core/recognition";

/**
 * What the edge and the objects say to each other. During a deploy old and new code talk for minutes, so a change
 * here must be readable by both: add optional fields, never rename or retype one.
 *
 * The limits travel with every question: an object has no configuration of its own that could disagree.
 *
 * Calls that decide travel as JSON: as objects, which RPC clones structurally, they take a tenth of a decision's time more.
 */
export interface Question {
  readonly policy: string;
  readonly cost: number;
  readonly counters: readonly AskedCounter[];
  /** For so long a denial will be answered from memory: the object says what leaves its windows meanwhile. */
  readonly believeMs?: number | undefined;
}

/** One layer of the policy, with the key it counts by for the subject at hand. */
export interface AskedCounter {
  readonly layer: string;
  readonly key: string;
  readonly limits: readonly Limit[];
}

/** A question about an event, which its id names together with the subject that it is of. */
export interface EventQuestion extends Question {
  readonly id: string;
  /** Who the decision is about (`core/identity.ts`): the same id of another subject is another event. */
  readonly subject: string;
}

/** An event to be recorded if all counters admit its cost. */
export interface Charge extends EventQuestion {
  /** The longest window of the policy, in this object or not: so long is the id known. */
  readonly keepMs: number;
  /** The attempt that asks, however often it has to: it lays a claim on the event, and its undo lifts that claim alone. */
  readonly attempt: string;
  /** An event that is no older may be of an attempt that is still being made. */
  readonly youngMs?: number;
  /**
   * The id was judged already, by another object or after a first answer: `new` and `torn` are charged in every counter as
   * of now, `known` only where nothing is held of it. Left out, this object judges if it is asked alone; otherwise it
   * charges an id that it does not know, and tells what it holds of it.
   */
  readonly verdict?: "new" | "torn" | "known";
  /** The attempts that made the id's decision before this one: what they have dated is none of this one's. */
  readonly earlier?: readonly string[];
  /** The same subject as other policies see it: an event of theirs with the same id is a conflict. */
  readonly aliases?: readonly string[];
  /** No other object is asked: nothing is ever put back, and a replay need lay no claim. */
  readonly alone?: boolean;
}

export interface Answer extends Verdict {
  /** The object's own time of the decision. */
  readonly atMs: number;
  /** Of a denial, or of what is left of one, if it was asked for: `leavingsOf`. */
  readonly leavings?: readonly (readonly (readonly number[])[])[];
}

export interface ChargeAnswer extends Answer {
  /** The event of the first counter was recorded before, by another attempt. */
  readonly replayed: boolean;
  /** The id was used with another policy or cost: nothing was decided. */
  readonly conflicts: boolean;
  /** It was charged as of now; false of what was known as a whole, and of what was denied. */
  readonly charged: boolean;
  /** What the key of each counter holds of the id, null where nothing: in its window nothing was charged yet. */
  readonly remembered?: readonly (Remembered | null)[];
}

/**
 * An event that is over. What is asked stands in a field of its own, since there are objects that take every method they
 * do not know for a settle: of this question they can make nothing, and fail.
 */
export interface ReleaseQuestion {
  readonly event: EventQuestion;
}

/** `found`: there is such an event; of none, nothing was changed. */
export interface EventAnswer extends Answer {
  readonly found: boolean;
}

export interface StoredEvent {
  readonly id: string;
  readonly atMs: number;
  readonly cost: number;
  /** The cost it was admitted with, where it was settled at another. */
  readonly admittedCost?: number;
}

/** An override to be set. It ends at an instant, or after a time that the object counts from its own. */
export interface OverrideToSet extends Omit<KeyOverride, "endsAtMs"> {
  readonly ends: { readonly atMs: number } | { readonly inMs: number };
}

export interface Inspected {
  /** Of the limits in force. */
  readonly standings: Verdict["standings"][number];
  /** The override of the key that is in force: the same for all of its counters. */
  readonly override?: KeyOverride;
  /** How many events count in the longest window of the counter's own limits and those in force. */
  readonly total: number;
  /** The newest of them, newest first. */
  readonly events: readonly StoredEvent[];
}

/** The calls that decide something, each with its question and its answer. */
interface Decisions {
  check: { question: Question; answer: Answer };
  consume: { question: Charge; answer: ChargeAnswer };
  undo: { question: Charge; answer: Answer };
  settle: { question: EventQuestion; answer: EventAnswer };
  release: { question: ReleaseQuestion; answer: EventAnswer };
}
export type Method = keyof Decisions;
export type QuestionOf<M extends Method> = Decisions[M]["question"];
export type AnswerOf<M extends Method> = Decisions[M]["answer"];

/** One of many calls that travel together. */
export type Call = { [M in Method]: { readonly method: M; readonly question: QuestionOf<M> } }[Method];

/** What became of it: one that fails leaves the others as they are, and `error` says how, for a log. */
export type Outcome<A = AnswerOf<Method>> = { readonly answer: A } | { readonly error: string };
