import type * as z from "zod";
import type { Config } from "../config/config";
import { layersIn, type Mode, type Policy, smallestMax } from "../core/policy";
import type { Counter } from "../object/protocol";
import { type InvalidField, isRecord, objectIn, Refusal, readBySchema } from "./refusal";
import { decisionId, decisionRequest, releaseRequest, settleRequest } from "./schema";
import { identityKeysOf, identityOf, layerKeysOf, presentIn, type Subject } from "./subject";

type ReadConfig = Pick<Config, "policies" | "attributes" | "ipv6PrefixBits">;

/** A valid request: what to count, by which keys. */
export interface ValidRequest {
  readonly policy: Policy;
  readonly cost: number;
  /** One a live layer, in the policy's order. */
  readonly counters: readonly Counter[];
  /** Likewise of the layers in shadow, those that the subject has an attribute for. */
  readonly shadow: readonly Counter[];
  /** Who it is about, as the policy sees it (`core/identity.ts`): the subject of an event, to objects. */
  readonly identity: string;
}

/** About one decision, by its id. */
export interface ValidChange extends ValidRequest {
  readonly id: string;
}

export interface ValidConsume extends ValidChange {
  /** Nobody has sent this id before. */
  readonly isNew: boolean;
  /** The same subject as other policies see it: none for an id that the service made. */
  readonly aliases: readonly string[];
}

/** What a consume goes by: its idempotency key, if it has one, and which attempt with that key it is, if that is known. */
export interface Idempotency {
  readonly key?: unknown;
  readonly attempt?: unknown;
}

/**
 * Reads a check from what a caller sent.
 * @throws Refusal: `invalid` with every mistake, `unknown-policy` or `never-fits`, the first of them that applies.
 */
export function readCheck(input: unknown, config: ReadConfig): ValidRequest {
  const { request, ...asked } = read(decisionRequest, input, config);
  return requireAdmissible({ ...asked, cost: request.cost ?? 1 });
}

/**
 * Reads a consume, whose id is the idempotency key or a new one.
 * @throws Refusal as `readCheck` does.
 */
export function readConsume(input: unknown, idempotency: Idempotency, config: ReadConfig): ValidConsume {
  const { mistakes, id, isNew } = idOf(idempotency);
  const { request, ...asked } = read(decisionRequest, input, config, mistakes);
  // An id that the service has just made, nobody can have used.
  const aliases = idempotency.key === undefined ? [] : aliasesOf(asked, request.subject, config);
  return requireAdmissible({ ...asked, cost: request.cost ?? 1, id, isNew, aliases });
}

/**
 * What the other policies make of a subject, where that is not the same: those that count it by its first key too. Others,
 * by its address alone, can't tell it from whoever shares that.
 */
function aliasesOf(asked: Omit<ValidRequest, "cost">, subject: Subject, config: ReadConfig): string[] {
  const present = presentIn(subject, config.attributes, config.ipv6PrefixBits);
  const [first = ""] = identityKeysOf(asked.policy, layerKeysOf(asked.policy, present).keys);
  const aliases = [...config.policies.values()].flatMap((policy) => {
    const { keys } = layerKeysOf(policy, present);
    const isOther = policy !== asked.policy && identityKeysOf(policy, keys).includes(first);
    return isOther ? identityOf(policy, keys) : [];
  });
  return [...new Set(aliases)].filter((alias) => alias !== asked.identity);
}

/** The same, whose idempotency key is a field: over RPC and in a batch. */
export function readConsumeWithKey(input: unknown, config: ReadConfig): ValidConsume {
  const { idempotency_key: key, attempt, ...request } = objectIn(input);
  return readConsume(request, { key, attempt }, config);
}

/**
 * Reads a settle, whose cost may be above every limit: what is spent is spent.
 * @throws Refusal `invalid` or `unknown-policy`.
 */
export function readSettle(input: unknown, config: ReadConfig): ValidChange {
  const { request, ...asked } = read(settleRequest, input, config);
  return { ...asked, cost: request.cost, id: request.id };
}

/** @throws Refusal `invalid` or `unknown-policy`. */
export function readRelease(input: unknown, config: ReadConfig): ValidChange {
  const { request, ...asked } = read(releaseRequest, input, config);
  return { ...asked, cost: 1, id: request.id };
}

/** The id that a consume goes by: its idempotency key, or a new one. */
export function idOf({ key, attempt }: Idempotency): { id: string; isNew: boolean; mistakes: InvalidField[] } {
  if (key === undefined) return { id: crypto.randomUUID(), isNew: true, mistakes: [] };
  const id = decisionId.safeParse(key);
  const mistakes = (id.error?.issues ?? []).map(({ message }) => ({ pointer: "/idempotency_key", detail: message }));
  return { id: id.data ?? "", isNew: attempt === 1, mistakes };
}

/** A request as its schema has it, with what to count and by which keys. */
interface ReadRequest<T> extends Omit<ValidRequest, "cost"> {
  readonly request: T;
}

/**
 * Reads a request by its schema and by its policy, each as far as it goes, so that all mistakes are told together.
 * @throws Refusal `invalid` or `unknown-policy`
 */
function read<T>(
  schema: z.ZodType<T>,
  input: unknown,
  config: ReadConfig,
  mistakes: InvalidField[] = [],
): ReadRequest<T> {
  const { policies, attributes, ipv6PrefixBits } = config;
  const { policy: name, subject } = objectIn(input, mistakes);
  const policy = typeof name === "string" ? policies.get(name) : undefined;
  const present = presentIn(stringsOf(subject), attributes, ipv6PrefixBits);
  const { keys, errors } = policy && isRecord(subject) ? layerKeysOf(policy, present) : { keys: [], errors: [] };

  const request = readBySchema(schema, input, { before: mistakes, further: errors });
  if (!policy) throw unknownPolicy(name);
  const countersIn = (mode: Mode): Counter[] =>
    policy.layers.flatMap((layer, i) => {
      const key = keys[i];
      return layer.mode === mode && key !== undefined ? [{ layer: layer.name, key, limits: layer.limits }] : [];
    });
  const counted = { counters: countersIn("live"), shadow: countersIn("shadow") };
  return { request, policy, ...counted, identity: identityOf(policy, keys) };
}

/** With a pointer, as what is malformed has: it tells callers of a settle this 404 from that of the decision. */
function unknownPolicy(name: unknown): Refusal {
  return new Refusal("unknown-policy", `There is no policy "${name}". GET /v1/policies lists the policies in force.`, [
    { pointer: "/policy", detail: "must name a policy in force" },
  ]);
}

/** The attributes of a subject that are strings: about the others the schema has something to say. */
function stringsOf(subject: unknown): Subject {
  if (!isRecord(subject)) return {};
  return Object.fromEntries(
    Object.entries(subject).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** @throws Refusal `never-fits` */
export function requireAdmissible<A extends ValidRequest>(asked: A): A {
  const { policy, cost } = asked;
  const most = smallestMax(layersIn("live", policy));
  if (cost <= most) return asked;
  throw new Refusal(
    "never-fits",
    `A cost of ${cost} can never be admitted: policy "${policy.name}" admits at most ${most}.`,
  );
}
