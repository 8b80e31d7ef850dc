import type * as z from "zod";
import type { Config } from "../config/config";
import { type Policy, smallestMax } from "../core/policy";
import type { AskedCounter } from "../object/protocol";
import { type InvalidField, pointer, Refusal } from "./refusal";
import { decisionRequest } from "./schema";
import { keysOf, type Subject } from "./subject";

/** A valid request: what to count, by which keys. */
export interface Asked {
  readonly policy: Policy;
  readonly cost: number;
  /** One a layer, in the policy's order. */
  readonly counters: readonly AskedCounter[];
}

/**
 * Reads a check or consume from what a caller sent.
 * @throws Refusal: `invalid` with every mistake, `unknown-policy` or `never-fits`, the first of them that applies.
 */
export function readRequest(input: unknown, { policies, ipv6PrefixBits }: Config): Asked {
  const read = decisionRequest.safeParse(input);
  if (!read.success) throw invalid([...fieldErrors(read.error), ...subjectErrors(input, policies, ipv6PrefixBits)]);

  const { subject, cost = 1 } = read.data;
  const policy = policies.get(read.data.policy);
  if (!policy) throw new Refusal("unknown-policy", `There is no policy "${read.data.policy}".`);
  const { keys, errors } = keysOf(policy, subject, ipv6PrefixBits);
  if (errors.length > 0) throw invalid(errors);
  const most = smallestMax(policy);
  if (cost > most)
    throw new Refusal(
      "never-fits",
      `Policy "${policy.name}" never admits a cost above ${most}, and this one is ${cost}.`,
    );
  const counters = policy.layers.map(({ name, limits }, i) => ({ layer: name, key: keys[i] ?? "", limits }));
  return { policy, cost, counters };
}

export function invalid(errors: readonly InvalidField[]): Refusal {
  const count = errors.length === 1 ? "a mistake" : `${errors.length} mistakes`;
  return new Refusal("invalid", `The request has ${count}; "errors" says where.`, errors);
}

export function fieldErrors(error: z.ZodError): InvalidField[] {
  return error.issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({ pointer: pointer([...issue.path, key]), detail: "unknown field" }))
      : [{ pointer: pointer(issue.path), detail: issue.message }],
  );
}

/** The mistakes in the subject of a request that is malformed elsewhere, as far as they can be told. */
function subjectErrors(input: unknown, policies: Config["policies"], ipv6PrefixBits: number): InvalidField[] {
  const shape = decisionRequest.shape;
  const { policy: name, subject } = Object(input) as Record<string, unknown>;
  const policy = policies.get(String(name));
  const attributes = shape.subject.safeParse(subject);
  if (!policy || !attributes.success) return [];
  return keysOf(policy, attributes.data as Subject, ipv6PrefixBits).errors;
}
