/** An id as applications have them. A whole number or a BigInt stands for its decimal digits. */
export type Id = string | number | bigint;

/** Who a request is about, as attributes. An attribute that is undefined, null or blank is absent. */
export type Subject = Readonly<Record<string, Id | null | undefined>>;

/** What a request weighs: the same in every layer, or by the names of the layers of its policy. */
export type Cost = number | Readonly<Record<string, number>>;

export interface CheckRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** How much the request weighs. Default: 1, in every layer that is not named. A layer at 0 decides nothing. */
  readonly cost?: Cost | undefined;
  /**
   * Ends the call at once, with its reason. A consume without an `idempotencyKey` is then given back in the background,
   * if it was admitted. A consume with a key may stay charged.
   */
  readonly signal?: AbortSignal | undefined;
}

export interface ConsumeRequest extends CheckRequest {
  /**
   * A consume that is repeated with its key is charged once. 1 to 128 of `A-Z a-z 0-9 . _ ~ : -`. Default: a random
   * key.
   */
  readonly idempotencyKey?: Id | undefined;
  /**
   * Waits this long for room. Denied, the consume waits and tries again, unless its wait is longer than what is left of
   * this time. A ban and an outage are answered at once. Default: 0.
   */
  readonly waitUpToMs?: number | undefined;
}

export interface SettleRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** The decision to correct. */
  readonly id: Id;
  /** The real cost. 0 gives all of it back. Layers that are not named keep their cost. */
  readonly cost: Cost;
  /** Ends the wait at once, with its reason. The settle is still sent until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReleaseRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** The decision to release. */
  readonly id: Id;
  /** Ends the wait at once, with its reason. The release is still sent until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadyRequest {
  /** The policies that the application uses. Each must be in force. */
  readonly policies?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}
