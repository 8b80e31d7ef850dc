import type * as z from "zod";
import type { Config } from "../config/config";
import { layersIn, type Mode, type Policy, smallestMax } from "../core/policy";
import type { Counter } from "../object/protocol";
import { type InvalidField, isRecord, objectIn, Refusal, readBySchema } from "./refusal";
import { decisionId, decisionRequest, releaseRequest, settleRequest } from "./schema";
import { identityKeysOf, identityOf, layerKeysOf, presentIn, type Subject } from "./subject";

type ReadConfig = Pick<Config, "policies" | "attributes" | "ipv6PrefixBits">;

/** A valid request: its policy, its cost, and the counters that count it. */
export interface ValidRequest {
  readonly policy: Policy;
  readonly cost: number;
  /** A counter per live layer, in the policy's order. */
  readonly counters: readonly Counter[];
  /** A counter per layer in shadow that the subject has an attribute for. */
  readonly shadow: readonly Counter[];
  /** Who the request is about, as the policy sees it (`core/identity.ts`). */
  readonly identity: string;
}

/** A valid request about the decision with this id. */
export interface ValidChange extends ValidRequest {
  readonly id: string;
}

export interface ValidConsume extends ValidChange {
  /** This is the first call with the id: the service made it, or the caller says so. */
  readonly isNew: boolean;
  /** The identities of the same subject in other policies. Empty for an id that the service made. */
  readonly aliases: readonly string[];
}

/** The idempotency key of a consume, and how often it was sent, if the caller says so. */
export interface Idempotency {
  readonly key?: unknown;
  readonly attempt?: unknown;
}

/**
 * Reads a check.
 * @throws Refusal: `invalid` with all mistakes, else `unknown-policy`, else `never-fits`.
 */
export function readCheck(input: unknown, config: ReadConfig): ValidRequest {
  const { request, ...common } = read(decisionRequest, input, config);
  return requireAdmissible({ ...common, cost: request.cost ?? 1 });
}

/**
 * Reads a consume. Its id is the idempotency key, or a new id.
 * @throws Refusal like `readCheck`.
 */
export function readConsume(input: unknown, idempotency: Idempotency, config: ReadConfig): ValidConsume {
  const { mistakes, id, isNew } = idOf(idempotency);
  const { request, ...common } = read(decisionRequest, input, config, mistakes);
  // Nobody can have used an id that the service has just made.
  const aliases = idempotency.key === undefined ? [] : aliasesOf(common, request.subject, config);
  return requireAdmissible({ ...common, cost: request.cost ?? 1, id, isNew, aliases });
}

/**
 * The other identities of a subject: in the policies that also count it by the first key of its own policy, such as its
 * user. A policy that counts by the address alone can't tell the subject from others with the same address.
 */
function aliasesOf(common: Omit<ValidRequest, "cost">, subject: Subject, config: ReadConfig): string[] {
  const present = presentIn(subject, config.attributes, config.ipv6PrefixBits);
  const [first = ""] = identityKeysOf(common.policy, layerKeysOf(common.policy, present).keys);
  const aliases = [...config.policies.values()].flatMap((policy) => {
    const { keys } = layerKeysOf(policy, present);
    const isOther = policy !== common.policy && identityKeysOf(policy, keys).includes(first);
    return isOther ? identityOf(policy, keys) : [];
  });
  return [...new Set(aliases)].filter((alias) => alias !== common.identity);
}

/** Reads a consume that has its idempotency key as a field: over RPC and in a batch. */
export function readConsumeWithKey(input: unknown, config: ReadConfig): ValidConsume {
  const { idempotency_key: key, attempt, ...request } = objectIn(input);
  return readConsume(request, { key, attempt }, config);
}

/**
 * Reads a settle. Its cost may be above every limit, since it is spent already.
 * @throws Refusal `invalid` or `unknown-policy`.
 */
export function readSettle(input: unknown, config: ReadConfig): ValidChange {
  const { request, ...common } = read(settleRequest, input, config);
  return { ...common, cost: request.cost, id: request.id };
}

/** Reads a release. @throws Refusal `invalid` or `unknown-policy`. */
export function readRelease(input: unknown, config: ReadConfig): ValidChange {
  const { request, ...common } = read(releaseRequest, input, config);
  return { ...common, cost: 1, id: request.id };
}

/** The id of a consume: its idempotency key, or a new id. */
export function idOf({ key, attempt }: Idempotency): { id: string; isNew: boolean; mistakes: InvalidField[] } {
  if (key === undefined) return { id: crypto.randomUUID(), isNew: true, mistakes: [] };
  const id = decisionId.safeParse(key);
  const mistakes = (id.error?.issues ?? []).map(({ message }) => ({ pointer: "/idempotency_key", detail: message }));
  return { id: id.data ?? "", isNew: attempt === 1, mistakes };
}

/** What all requests have in common, and `request`: the input, typed by its schema. */
interface ReadRequest<T> extends Omit<ValidRequest, "cost"> {
  readonly request: T;
}

/**
 * Reads a request by its schema and by its policy, so that all mistakes are reported together.
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
  const identity = identityOf(policy, keys);
  return { request, policy, counters: countersIn("live"), shadow: countersIn("shadow"), identity };
}

/** Has a pointer, so that callers of a settle can tell this 404 from that of an unknown decision. */
function unknownPolicy(name: unknown): Refusal {
  return new Refusal("unknown-policy", `There is no policy "${name}". GET /v1/policies lists the policies in force.`, [
    { pointer: "/policy", detail: "must name a policy in force" },
  ]);
}

/** The attributes of a subject that are strings. The schema reports the others as mistakes. */
function stringsOf(subject: unknown): Subject {
  if (!isRecord(subject)) return {};
  return Object.fromEntries(
    Object.entries(subject).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** @throws Refusal `never-fits` */
export function requireAdmissible<A extends ValidRequest>(request: A): A {
  const { policy, cost } = request;
  const most = smallestMax(layersIn("live", policy));
  if (cost <= most) return request;
  throw new Refusal(
    "never-fits",
    `A cost of ${cost} can never be admitted: policy "${policy.name}" admits at most ${most}.`,
  );
}
