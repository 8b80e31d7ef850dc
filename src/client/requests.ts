/**
 * Who a request is about, as attributes. An attribute that is undefined, null or blank is absent. A whole number or a
 * BigInt stands for its decimal digits.
 */
export type Subject = Readonly<Record<string, string | number | bigint | null | undefined>>;

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
  readonly idempotencyKey?: string | undefined;
}

export interface SettleRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** The decision to correct. */
  readonly id: string;
  /** The real cost. 0 gives all of it back. Layers that are not named keep their cost. */
  readonly cost: Cost;
  /** Ends the wait at once, with its reason. The settle is still sent until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReleaseRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** The decision to release. */
  readonly id: string;
  /** Ends the wait at once, with its reason. The release is still sent until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadyRequest {
  /** The policies that the application uses. Each must be in force. */
  readonly policies?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}
