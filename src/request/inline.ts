import type * as z from "zod";
import { withLayer } from "../core/identity";
import { Policy } from "../core/policy";
import { mistakesInCost, namedCost, wholeCost } from "./cost";
import { digestOf } from "./digest";
import {
  type Idempotency,
  idOf,
  requireAdmissible,
  type ValidChange,
  type ValidConsume,
  type ValidRequest,
} from "./read";
import { fieldErrors, type InvalidField, invalid, isRecord, objectIn, readBySchema } from "./refusal";
import { inlineKey, inlineReleaseRequest, inlineRequest, inlineSettleRequest } from "./schema";

/** The policy of inline limits. No other can have its name. */
export const INLINE = "inline";

/**
 * The prefix of keys of inline limits: limits that the caller names in the request, such as a library with limits of
 * its own. No key of a policy has it, since those begin with an attribute and a colon.
 */
const PREFIX = `${INLINE}/`;

type Layers = z.output<typeof inlineRequest>["layers"];

/** @throws Refusal `invalid` with all mistakes, or `never-fits`. */
export function readInlineCheck(input: unknown): ValidRequest {
  const { cost, layers } = readInline(inlineRequest, input);
  const request = resolve(layers);
  return requireAdmissible({ ...request, cost: wholeCost(cost, request.policy) });
}

/** @throws Refusal like `readInlineCheck`. */
export function readInlineConsume(input: unknown, idempotency: Idempotency): ValidConsume {
  const { mistakes, ...id } = idOf(idempotency);
  const { cost, layers } = readInline(inlineRequest, input, mistakes);
  const request = resolve(layers);
  return { ...requireAdmissible({ ...request, cost: wholeCost(cost, request.policy) }), ...id, aliases: [] };
}

/** @throws Refusal `invalid` */
export function readInlineSettle(input: unknown): ValidChange {
  const { id, cost, layers } = readInline(inlineSettleRequest, input);
  const request = resolve(layers);
  return { ...request, cost: namedCost(cost, request.policy), id };
}

/** @throws Refusal `invalid` */
export function readInlineRelease(input: unknown): ValidChange {
  const { id, layers } = readBySchema(inlineReleaseRequest, input);
  return { ...resolve(layers), cost: 1, id };
}

/** Reads a request with a cost, which may be by the names of its layers. @throws Refusal `invalid` */
function readInline<T>(schema: z.ZodType<T>, input: unknown, before: readonly InvalidField[] = []): T {
  const { cost, layers } = objectIn(input, before);
  const names = Array.isArray(layers) ? layers.flatMap((layer) => (isRecord(layer) ? layer.name : [])) : [];
  const further = isRecord(cost)
    ? mistakesInCost(
        cost,
        names.filter((name) => typeof name === "string"),
      )
    : [];
  return readBySchema(schema, input, { before, further });
}

/**
 * The key that objects count by, from the caller's own key.
 * @throws Refusal `invalid`
 */
export function readInlineKey(key: string): string {
  const normalized = inlineKey.safeParse(key);
  if (!normalized.success) throw invalid(fieldErrors(normalized.error));
  return PREFIX + normalized.data;
}

function resolve(layers: Layers): Omit<ValidRequest, "cost"> {
  const counters = layers.map(({ name, key, limits }) => ({ layer: name, key: PREFIX + key, limits }));
  const policy = new Policy(
    INLINE,
    layers.map(({ name, limits }) => ({ name, by: [], limits, mode: "live" as const })),
  );
  // Includes the layers: all inline limits have the same policy name, and other layers make another decision.
  const identity = withLayer("", "", digestOf(JSON.stringify(counters.map(({ layer, key }) => [layer, key]))));
  return { policy, counters, shadow: [], identity };
}
