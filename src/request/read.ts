import type * as z from "zod";
import type { Config } from "../config/config";
import type { Token } from "../config/token-digests";
import { type Cost, type CostByLayer, costIn } from "../core/cost";
import { type Policy, smallestMax } from "../core/policy";
import type { Counter } from "../object/protocol";
import { layerNames, mistakesInCost, namedCost, wholeCost } from "./cost";
import { type FoundMistakes, type InvalidField, isRecord, objectIn, Refusal, readBySchema } from "./refusal";
import { decisionId, decisionRequest, releaseRequest, settleRequest } from "./schema";
import { identityKeysOf, identityLayersOf, identityOf, type LayerKeys, layerKeysOf } from "./subject";
import { type DecisionFields, isDecisionId, isDecisionRequest } from "./well-formed";

/** What requests are read by: the configuration, and what the token of the caller permits. */
export interface ReadConfig extends Pick<Config, "policies" | "ipv6PrefixBits"> {
  /** The policies that the caller may use. Undefined: all. */
  readonly permitted?: ReadonlySet<string> | undefined;
}

export function readConfigOf(config: Config, { policies: permitted }: Pick<Token, "policies">): ReadConfig {
  return permitted ? { policies: config.policies, ipv6PrefixBits: config.ipv6PrefixBits, permitted } : config;
}

/** A valid request: its policy, its cost, and the counters that count it. */
export interface ValidRequest {
  readonly policy: Policy;
  /** As it was sent. If it is by layer: of every layer of the policy, in its order. In a settle: of those that are named. */
  readonly cost: Cost;
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
 * @throws Refusal: `invalid` with all mistakes, else `forbidden-policy`, else `unknown-policy`, else `never-fits`.
 */
export function readCheck(input: unknown, config: ReadConfig): ValidRequest {
  const { request, policy, counters, shadow, identity } = read(decisionWith(NONE), input, config);
  return requireAdmissible({ policy, cost: wholeCost(request.cost, policy), counters, shadow, identity });
}

/**
 * Reads a consume. Its id is the idempotency key, or a new id. `otherFields` are fields that the caller of this has read.
 * @throws Refusal like `readCheck`.
 */
export function readConsume(
  input: unknown,
  idempotency: Idempotency,
  config: ReadConfig,
  otherFields: readonly string[] = NONE,
): ValidConsume {
  const { mistakes, id, isNew } = idOf(idempotency);
  const common = read(decisionWith(otherFields), input, config, mistakes);
  const { request, policy, counters, shadow, identity } = common;
  // Nobody can have used an id that the service has just made.
  const aliases = idempotency.key === undefined ? NONE : aliasesOf(common, config);
  const cost = wholeCost(request.cost, policy);
  return requireAdmissible({ policy, cost, counters, shadow, identity, id, isNew, aliases });
}

/**
 * The other identities of a subject: in the policies that also count it by the first key of its own policy, such as its
 * user. A policy that counts by the address alone can't tell the subject from others with the same address.
 */
function aliasesOf(
  { policy, keys, identity, request }: ReadRequest<DecisionFields>,
  config: ReadConfig,
): readonly string[] {
  const others = otherIdentities(policy, config.policies);
  if (others.length === 0) return NONE;
  const [first = ""] = identityKeysOf(policy, keys);
  const aliases: string[] = [];
  for (const other of others) {
    const { keys } = layerKeysOf(other, request.subject, config.ipv6PrefixBits);
    if (!identityKeysOf(other, keys).includes(first)) continue;
    const alias = identityOf(other, keys);
    if (alias !== identity && !aliases.includes(alias)) aliases.push(alias);
  }
  return aliases;
}

const othersOf = new WeakMap<Policy, readonly Policy[]>();

/**
 * The policies that see other identities than a policy does. One of each kind, since those whose layers have the same names
 * and attributes see the same. Cached: many configurations have one kind.
 */
function otherIdentities(policy: Policy, policies: ReadConfig["policies"]): readonly Policy[] {
  const cached = othersOf.get(policy);
  if (cached) return cached;
  const kindOf = (of: Policy) => JSON.stringify(identityLayersOf(of).map(({ name, by }) => [name, by]));
  const kinds = new Map([...policies.values()].map((other) => [kindOf(other), other]));
  kinds.delete(kindOf(policy));
  const found = [...kinds.values()];
  othersOf.set(policy, found);
  return found;
}

const KEY_FIELDS = ["idempotency_key", "attempt"];
const KEY_FIELDS_AND_OP = [...KEY_FIELDS, "op"];

/** Reads a consume that has its idempotency key as a field: over RPC. */
export function readConsumeWithKey(input: unknown, config: ReadConfig, otherFields = KEY_FIELDS): ValidConsume {
  const { idempotency_key: key, attempt } = objectIn(input);
  return readConsume(input, { key, attempt }, config, otherFields);
}

/** The same in a batch, where the consume has its `op` as a field too. */
export function readConsumeInBatch(input: unknown, config: ReadConfig): ValidConsume {
  return readConsumeWithKey(input, config, KEY_FIELDS_AND_OP);
}

/**
 * Reads a settle. Its cost may be above every limit, since it is spent already.
 * @throws Refusal `invalid`, `forbidden-policy` or `unknown-policy`.
 */
export function readSettle(input: unknown, config: ReadConfig): ValidChange {
  const { request, policy, counters, shadow, identity } = read(bySchema(settleRequest), input, config);
  return { policy, cost: namedCost(request.cost, policy), counters, shadow, identity, id: request.id };
}

/** Reads a release. @throws Refusal like `readSettle`. */
export function readRelease(input: unknown, config: ReadConfig): ValidChange {
  const { request, policy, counters, shadow, identity } = read(bySchema(releaseRequest), input, config);
  return { policy, cost: 1, counters, shadow, identity, id: request.id };
}

/** The id of a consume: its idempotency key, or a new id. */
export function idOf({ key, attempt }: Idempotency): { id: string; isNew: boolean; mistakes: readonly InvalidField[] } {
  if (key === undefined) return { id: crypto.randomUUID(), isNew: true, mistakes: NONE };
  const isNew = attempt === 1;
  if (isDecisionId(key)) return { id: key, isNew, mistakes: NONE };
  const issues = decisionId.safeParse(key).error?.issues ?? [];
  return { id: "", isNew, mistakes: issues.map(({ message }) => ({ pointer: "/idempotency_key", detail: message })) };
}

/** What all requests have in common, and `request`: the input, typed by its schema. */
interface ReadRequest<T> extends Omit<ValidRequest, "cost"> {
  readonly request: T;
  readonly keys: LayerKeys;
}

/** Reads the fields of a request. @throws Refusal `invalid`, also for the mistakes that were found elsewhere. */
type ReadFields<T> = (input: Record<string, unknown>, found: FoundMistakes) => T;

const bySchema =
  <T>(schema: z.ZodType<T>): ReadFields<T> =>
  (input, found) =>
    readBySchema(schema, input, found);

/** Reads a decision request that may have other fields, which were read already. */
const decisionWith =
  (otherFields: readonly string[]): ReadFields<DecisionFields> =>
  (input, found) => {
    const { before, further } = found;
    if (before.length === 0 && further.length === 0 && isDecisionRequest(input, otherFields)) return input;
    const fields = Object.entries(input).filter(([name]) => !otherFields.includes(name));
    return readBySchema(decisionRequest, Object.fromEntries(fields), found);
  };

/**
 * Reads a request by its fields and by its policy, so that all mistakes are reported together. A policy that the token
 * may not use is not looked up: neither its attributes nor whether it exists are told.
 * @throws Refusal `invalid`, `forbidden-policy` or `unknown-policy`
 */
function read<T>(
  readFields: ReadFields<T>,
  input: unknown,
  { policies, ipv6PrefixBits, permitted }: ReadConfig,
  mistakes: readonly InvalidField[] = NONE,
): ReadRequest<T> {
  const given = objectIn(input, mistakes);
  const { policy: name, subject, cost } = given;
  const isForbidden = typeof name === "string" && permitted?.has(name) === false;
  const policy = typeof name === "string" && !isForbidden ? policies.get(name) : undefined;
  const { keys, errors } = policy && isRecord(subject) ? layerKeysOf(policy, subject, ipv6PrefixBits) : NO_KEYS;
  const further = policy && isRecord(cost) ? [...errors, ...mistakesInCost(cost, layerNames(policy))] : errors;
  const request = readFields(given, { before: mistakes, further });
  if (isForbidden) throw forbiddenPolicy(name);
  if (!policy) throw unknownPolicy(name);
  const counters: Counter[] = [];
  const shadow: Counter[] = [];
  for (const [i, { name: layer, mode, limits }] of policy.layers.entries()) {
    const key = keys[i];
    if (key) (mode === "live" ? counters : shadow).push({ layer, key: key.text, limits });
  }
  return { request, policy, keys, counters, shadow, identity: identityOf(policy, keys) };
}

const NONE: readonly never[] = [];
const NO_KEYS = { keys: NONE, errors: NONE };

function forbiddenPolicy(name: string): Refusal {
  return new Refusal("forbidden-policy", `The token may not use the policy "${name}".`, [
    { pointer: "/policy", detail: "must name a policy that the token may use" },
  ]);
}

/** Has a pointer, so that callers of a settle can tell this 404 from that of an unknown decision. */
function unknownPolicy(name: unknown): Refusal {
  return new Refusal("unknown-policy", `There is no policy "${name}". GET /v1/policies lists the policies in force.`, [
    { pointer: "/policy", detail: "must name a policy in force" },
  ]);
}

/** @throws Refusal `never-fits` */
export function requireAdmissible<A extends ValidRequest>(request: A): A {
  const { policy, cost, counters } = request;
  if (typeof cost !== "number") return requireAdmissibleByLayer(request, cost, counters);
  const most = policy.mostCost;
  if (cost <= most) return request;
  throw new Refusal(
    "never-fits",
    `A cost of ${cost} can never be admitted: policy "${policy.name}" admits at most ${most}.`,
  );
}

/** @throws Refusal `never-fits`, which names every layer that can't admit its cost. */
function requireAdmissibleByLayer<A extends ValidRequest>(
  request: A,
  cost: CostByLayer,
  counters: readonly Counter[],
): A {
  const tooMuch = counters.filter((counter) => costIn(cost, counter.layer) > smallestMax([counter]));
  if (tooMuch.length === 0) return request;
  const details = tooMuch.map(
    (counter) =>
      `layer "${counter.layer}" admits at most ${smallestMax([counter])}, and not ${costIn(cost, counter.layer)}`,
  );
  throw new Refusal("never-fits", `This cost can never be admitted: ${details.join("; ")}.`);
}
