/**
 * Who is asking, as attributes. One that is undefined, null or blank is absent. A whole number or a BigInt stands for its
 * decimal digits.
 */
export type Subject = Readonly<Record<string, string | number | bigint | null | undefined>>;

export interface CheckRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** How much it weighs; 1 when left out. */
  readonly cost?: number | undefined;
  /**
   * Ends the wait at once, with its reason. What a consume without an `idempotencyKey` may have been admitted is given
   * back in the background. One with a key may still be counted.
   */
  readonly signal?: AbortSignal | undefined;
}

export interface ConsumeRequest extends CheckRequest {
  /** Sent again with the same key, it is charged once. 1 to 128 of `A-Z a-z 0-9 . _ ~ : -`; made up when left out. */
  readonly idempotencyKey?: string | undefined;
}

export interface SettleRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** Of the decision to be corrected. */
  readonly id: string;
  /** The real cost; 0 gives all of it back. */
  readonly cost: number;
  /** Ends the wait at once, with its reason, and not the work: the settle is sent all the same, until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReleaseRequest {
  readonly policy: string;
  readonly subject: Subject;
  /** Of the decision that is over. */
  readonly id: string;
  /** Ends the wait at once, with its reason, and not the work: the release is sent all the same, until its deadline. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadyRequest {
  /** Policies that the application asks for: each must be in force. */
  readonly policies?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}
