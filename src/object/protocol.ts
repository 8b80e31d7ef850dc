import type { Cost } from "../core/cost";
import type { Verdict } from "../core/decide";
import type { Limit } from "../core/limit";
import type { KeyOverride, OverrideKind } from "../core/override";
import type { HeldId, Recognition } from "../core/recognition";

/**
 * The protocol between the Worker and the objects. During a deploy old and new code talk for minutes, so both must be
 * able to read a change: add optional fields, never rename or retype one.
 *
 * The limits travel with every question: an object has no configuration of its own that could disagree.
 *
 * Calls that decide travel as JSON. Structured cloning, which RPC does otherwise, takes a tenth of a decision's time more.
 */

/** A question about counters that one object holds. */
export interface Question {
  readonly policy: string;
  /** If it is by layer: of all layers of the request, in this object or not. A settle leaves layers out that keep theirs. */
  readonly cost: Cost;
  readonly counters: readonly Counter[];
  /** How long a denial will be cached: the object foretells what leaves its windows within that time. */
  readonly cacheMs?: number | undefined;
}

/** A layer of the policy, the key that it counts by for the subject at hand, and the limits to hold. */
export interface Counter {
  readonly layer: string;
  readonly key: string;
  readonly limits: readonly Limit[];
}

/** A question about an event. The id and the identity name the event together. */
export interface EventQuestion extends Question {
  readonly id: string;
  /** Who the request is about (`core/identity.ts`). The same id of another identity is another event. */
  readonly identity: string;
}

/** An event to be recorded if all counters admit its cost. */
export interface Charge extends EventQuestion {
  /** How long the id is known: the longest window of the policy, in this object or not. */
  readonly windowMs: number;
  /** Names the attempt. A call that is sent again has the same name. Rolling back lifts the claim of this attempt only. */
  readonly attempt: string;
  /** How long an attempt lasts at most. A younger event may belong to an attempt that is still in flight. */
  readonly attemptMs?: number;
  /**
   * The recognition of the id, if it took place already: by another object, or after a first round. `new` and `torn` charge
   * every counter as of now, `known` charges only the keys that hold nothing of the id. Without it an only part recognises
   * the id itself. Any other part charges an id that it does not hold, or returns what it holds.
   */
  readonly recognition?: Exclude<Recognition, "conflict">;
  /** The attempts that made the id's previous decision: what they dated is no part of this decision. */
  readonly earlierMakers?: readonly string[];
  /** The same subject as other policies see it. Their event with the same id is a conflict. */
  readonly aliases?: readonly string[];
  /** No other object is asked. Then nothing is ever rolled back, and a replay needs no claim. */
  readonly isOnlyPart?: boolean;
}

export interface ObjectVerdict extends Verdict {
  /** When the object decided, by its own clock. */
  readonly atMs: number;
  /** What leaves the windows next (`leavingsOf`), if the question has `cacheMs` and the cost does not fit. */
  readonly leavings?: readonly (readonly (readonly number[])[])[];
}

export interface ChargeVerdict extends ObjectVerdict {
  /** Another attempt recorded the event of the first counter before. */
  readonly replayed: boolean;
  /** The id was used with another policy or cost: nothing was decided. */
  readonly conflicts: boolean;
  /** The cost was charged as of now. False for a known id and for a denial. */
  readonly charged: boolean;
  /** What the key of each counter holds of the id, null for nothing. Present where the object could not decide by itself. */
  readonly held?: readonly (HeldId | null)[];
}

/** The verdict on a settle or a release. */
export interface ChangeVerdict extends ObjectVerdict {
  /** False if there is no such event: then nothing was changed. */
  readonly found: boolean;
}

/** An event, as one of its counters sees it. */
export interface StoredEvent {
  readonly id: string;
  readonly atMs: number;
  readonly cost: number;
  /** The cost at admission, if the event was settled at another cost. */
  readonly admittedCost?: number;
  /** It takes no place in a concurrent limit. */
  readonly released?: boolean;
}

/** An override to set. It ends at an instant, or after a duration by the object's clock. */
export interface OverrideToSet extends Omit<KeyOverride, "endsAtMs"> {
  readonly ends: { readonly atMs: number } | { readonly inMs: number };
}

export interface Inspected {
  /** How the limits in force stand. */
  readonly standings: Verdict["standings"][number];
  /** The key's override in force: the same for all of its counters. */
  readonly override?: KeyOverride;
  /** How many events count in the longest window of the counter's own limits and those in force. */
  readonly total: number;
  /** The newest of them, newest first. */
  readonly events: readonly StoredEvent[];
  /** The key's last denials that are in memory. Only in the first place, even if the key has no counter. */
  readonly denials?: KeyDenials;
}

export interface KeyDenials {
  /** Denials until this instant are unknown. */
  readonly sinceMs: number;
  /** Newest first. */
  readonly denials: readonly Denial[];
}

/** A consume that the object denied, as one of its keys sees it. */
export interface Denial {
  readonly atMs: number;
  readonly policy: string;
  /** In the layers of this key. */
  readonly cost: Cost;
  /** The limits in force that did not admit the cost, and how much of each was used. */
  readonly limits: readonly {
    readonly layer: string;
    readonly limit: Limit;
    readonly used: number;
    /** The counter held as many events as it can. */
    readonly isFull?: true;
    readonly override?: OverrideKind;
  }[];
}

/** The calls that decide, each with its question and its verdict. */
interface Calls {
  check: { question: Question; verdict: ObjectVerdict };
  consume: { question: Charge; verdict: ChargeVerdict };
  rollBack: { question: Charge; verdict: ObjectVerdict };
  settle: { question: EventQuestion; verdict: ChangeVerdict };
  release: { question: EventQuestion; verdict: ChangeVerdict };
}
export type Method = keyof Calls;
export type QuestionOf<M extends Method> = Calls[M]["question"];
export type VerdictOf<M extends Method> = Calls[M]["verdict"];

/** A call as it travels, together with others. */
export type Call = { [M in Method]: { readonly method: M; readonly question: QuestionOf<M> } }[Method];

/** The result of a call. A call that fails leaves the others as they are; `error` is for the log. */
export type CallResult<V = VerdictOf<Method>> = { readonly verdict: V } | { readonly error: string };
