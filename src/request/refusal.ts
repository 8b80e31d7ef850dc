import type * as z from "zod";

/** One mistake in a request, at a JSON pointer (RFC 6901) into it. */
export interface InvalidField {
  readonly pointer: string;
  readonly detail: string;
}

/**
 * - `invalid`: the request is malformed; `errors` lists all mistakes.
 * - `forbidden-policy`: the caller's token may not use this policy; `errors` points at the name.
 * - `unknown-policy`: no policy in force has this name; `errors` points at the name.
 * - `never-fits`: the cost is above a limit of the policy, so no wait helps.
 * - `reused-id`: the idempotency key was used for the same subject with another policy or cost.
 * - `unknown-decision`: no event of this policy and subject in the window has this id.
 * - `unreachable`: an object did not answer within the deadline.
 */
export type RefusalKind =
  | "invalid"
  | "forbidden-policy"
  | "unknown-policy"
  | "never-fits"
  | "reused-id"
  | "unknown-decision"
  | "unreachable";

/** A request that can't be decided. Its message is for the caller. Over RPC its own properties arrive too. */
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
export function pointerOf(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

export function invalid(errors: readonly InvalidField[]): Refusal {
  const count = errors.length === 1 ? "a mistake" : `${errors.length} mistakes`;
  return new Refusal("invalid", `The request has ${count}. "errors" says where.`, errors);
}

/** The mistakes that a schema found, in the words of the wire. */
export function fieldErrors(error: z.ZodError | undefined): InvalidField[] {
  return (error?.issues ?? []).flatMap((issue) => issueErrors(issue, []));
}

function issueErrors(issue: z.core.$ZodIssue, within: readonly PropertyKey[]): InvalidField[] {
  const path = [...within, ...issue.path];
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ pointer: pointerOf([...path, key]), detail: "unknown field" }));
  const alternative = issue.code === "invalid_union" ? meantAlternative(issue.errors) : undefined;
  if (alternative) return alternative.flatMap((inner) => issueErrors(inner, path));
  return [{ pointer: pointerOf(path), detail: issue.message }];
}

/** The mistakes by the alternative that the value is meant as: one of its type, else the first. */
function meantAlternative(alternatives: readonly z.core.$ZodIssue[][]): z.core.$ZodIssue[] | undefined {
  return alternatives.find((issues) => issues.every(({ path }) => path.length > 0)) ?? alternatives[0];
}

/** Mistakes that are reported together with those of the schema: before them, and after them. */
export interface FoundMistakes {
  readonly before: readonly InvalidField[];
  readonly further: readonly InvalidField[];
}

/**
 * Reads a request by its schema. All mistakes are reported together: those found `before`, those of the schema, and
 * `further` mistakes, except where a pointer, or what it is a part of, is reported already.
 * @throws Refusal `invalid`
 */
export function readBySchema<T>(
  schema: z.ZodType<T>,
  input: unknown,
  { before = [], further = [] }: Partial<FoundMistakes> = {},
): T {
  const request = schema.safeParse(objectIn(input, before));
  if (request.success && before.length === 0 && further.length === 0) return request.data;
  const errors = [...before, ...fieldErrors(request.error)];
  const reported = new Set(errors.map(({ pointer }) => pointer));
  const isReported = (pointer: string) =>
    reported.has(pointer) || reported.has(pointer.slice(0, pointer.lastIndexOf("/")));
  errors.push(...further.filter(({ pointer }) => !isReported(pointer)));
  if (!request.success || errors.length > 0) throw invalid(errors);
  return request.data;
}

/** The request, if it is an object. @throws Refusal `invalid`, which reports `mistakes` too. */
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
