import type * as z from "zod";
import type { Config } from "../config/config";
import { type Policy, smallestMax } from "../core/policy";
import type { AskedCounter } from "../object/protocol";
import { type InvalidField, pointer, Refusal } from "./refusal";
import { decisionId, decisionRequest, settleRequest } from "./schema";
import { digestOf, keysOf, type Subject } from "./subject";

type Reading = Pick<Config, "policies" | "attributes" | "ipv6PrefixBits">;

/** A valid request: what to count, by which keys. */
export interface Asked {
  readonly policy: Policy;
  readonly cost: number;
  /** One a layer, in the policy's order. */
  readonly counters: readonly AskedCounter[];
  /** A digest of whom it is about. */
  readonly subject: string;
}

/** About one decision, by its id. */
export interface AskedById extends Asked {
  readonly id: string;
}

export interface AskedToConsume extends AskedById {
  /** Nobody has sent this id before. */
  readonly isNew: boolean;
}

/** What a consume goes by: its idempotency key, if it has one, and which attempt with that key it is, if that is known. */
export interface Attempt {
  readonly idempotencyKey?: unknown;
  readonly attempt?: unknown;
}

/**
 * Reads a check from what a caller sent.
 * @throws Refusal: `invalid` with every mistake, `unknown-policy` or `never-fits`, the first of them that applies.
 */
export function readCheck(input: unknown, config: Reading): Asked {
  const { cost = 1, ...whose } = read(decisionRequest, input, config);
  return admissible(resolve(whose, cost, config));
}

/**
 * Reads a consume, whose id is the idempotency key or a new one.
 * @throws Refusal as `readCheck` does.
 */
export function readConsume(input: unknown, attempt: Attempt, config: Reading): AskedToConsume {
  const { mistakes, ...id } = idOf(attempt);
  const { cost = 1, ...whose } = read(decisionRequest, input, config, mistakes);
  return { ...admissible(resolve(whose, cost, config)), ...id };
}

/**
 * Reads a settle, whose cost may be above every limit: what is spent is spent.
 * @throws Refusal `invalid` or `unknown-policy`.
 */
export function readSettle(input: unknown, config: Reading): AskedById {
  const { id, cost, ...whose } = read(settleRequest, input, config);
  return { ...resolve(whose, cost, config), id };
}

/** The id that a consume goes by: its idempotency key, or a new one. */
export function idOf({ idempotencyKey, attempt }: Attempt): { id: string; isNew: boolean; mistakes: InvalidField[] } {
  if (idempotencyKey === undefined) return { id: crypto.randomUUID(), isNew: true, mistakes: [] };
  const key = decisionId.safeParse(idempotencyKey);
  const mistakes = (key.error?.issues ?? []).map(({ message }) => ({ pointer: "/idempotency_key", detail: message }));
  return { id: key.data ?? "", isNew: attempt === 1, mistakes };
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

/** The request as its schema has it; throws with its mistakes, those of the subject and `mistakes`, all together. */
function read<T>(schema: z.ZodType<T>, input: unknown, config: Reading, mistakes: InvalidField[] = []): T {
  const request = schema.safeParse(input);
  const told = [...mistakes, ...(request.error ? fieldErrors(request.error) : [])];
  const errors = [...told, ...subjectErrors(input, config).filter((error) => !isTold(error, told))];
  if (!request.success || errors.length > 0) throw invalid(errors);
  return request.data;
}

/** The mistakes in the subject, as far as they can be told whatever else is wrong with the request. */
function subjectErrors(input: unknown, { policies, ipv6PrefixBits }: Reading): InvalidField[] {
  const { policy: name, subject } = Object(input) as Record<string, unknown>;
  const policy = typeof name === "string" ? policies.get(name) : undefined;
  if (!policy || typeof subject !== "object" || subject === null || Array.isArray(subject)) return [];
  const attributes = Object.entries(subject).filter(([, value]) => typeof value === "string");
  return keysOf(policy, Object.fromEntries(attributes), ipv6PrefixBits).errors;
}

function isTold({ pointer }: InvalidField, told: readonly InvalidField[]): boolean {
  return told.some((error) => error.pointer === pointer);
}

function resolve(whose: { policy: string; subject: Subject }, cost: number, config: Reading): Asked {
  const policy = config.policies.get(whose.policy);
  if (!policy) throw new Refusal("unknown-policy", `There is no policy "${whose.policy}".`);
  const { keys } = keysOf(policy, whose.subject, config.ipv6PrefixBits);
  const counters = policy.layers.map(({ name, limits }, i) => ({ layer: name, key: keys[i] ?? "", limits }));
  return { policy, cost, counters, subject: digestOf(whose.subject, config.attributes, config.ipv6PrefixBits) };
}

/** @throws Refusal `never-fits` */
export function admissible(asked: Asked): Asked {
  const { policy, cost } = asked;
  const most = smallestMax(policy);
  if (cost <= most) return asked;
  throw new Refusal(
    "never-fits",
    `Policy "${policy.name}" never admits a cost above ${most}, and this one is ${cost}.`,
  );
}
