import type * as z from "zod";

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

export function invalid(errors: readonly InvalidField[]): Refusal {
  const count = errors.length === 1 ? "a mistake" : `${errors.length} mistakes`;
  return new Refusal("invalid", `The request has ${count}. "errors" says where.`, errors);
}

/** What a schema has to say of a request, in the words of the wire. */
export function fieldErrors(error: z.ZodError): InvalidField[] {
  return error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({ pointer: pointer([...issue.path, key]), detail: "unknown field" }))
      : [{ pointer: pointer(issue.path), detail: issue.message }],
  );
}

/** What a request is by its schema. @throws Refusal `invalid` with every mistake */
export function parsed<T>(schema: z.ZodType<T>, input: unknown): T {
  const request = schema.safeParse(objectIn(input));
  if (!request.success) throw invalid(fieldErrors(request.error));
  return request.data;
}

/** The request, if it is an object. @throws Refusal `invalid` with these mistakes too */
export function objectIn(input: unknown, mistakes: readonly InvalidField[] = []): Record<string, unknown> {
  if (isRecord(input)) return input;
  throw new Refusal("invalid", "The request must be an object.", [
    ...mistakes,
    { pointer: "", detail: "must be an object" },
  ]);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
