/** One mistake in a request, at a JSON pointer (RFC 6901) into it. */
export interface InvalidField {
  readonly pointer: string;
  readonly detail: string;
}

/**
 * - `invalid`: the request is malformed; `errors` lists every mistake.
 * - `unknown-policy`: no such policy in force; `errors` points at its name.
 * - `never-fits`: the cost is above a limit of the policy, so that no wait would help.
 * - `reused-id`: the idempotency key was used for the same subject with another policy or cost.
 * - `unknown-decision`: there is no such event of this policy and subject in the window.
 * - `unreachable`: an object did not answer within the deadline.
 */
export type RefusalKind =
  | "invalid"
  | "unknown-policy"
  | "never-fits"
  | "reused-id"
  | "unknown-decision"
  | "unreachable";

/** A request that is not decided. Its message is meant for the caller. Over RPC its own properties arrive too. */
export class Refusal extends Error {
  override readonly name = "Refusal";

  constructor(
    readonly kind: RefusalKind,
    detail: string,
    readonly errors: readonly InvalidField[] = [],
  ) {
    super(detail);
  }
}

/** `/subject/ip` for `["subject", "ip"]`. */
export function pointer(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}
