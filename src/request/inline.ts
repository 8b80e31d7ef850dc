import type * as z from "zod";
import { identityText } from "../core/identity";
import { digestOf } from "./digest";
import { admissible, type Idempotency, idOf, type ValidChange, type ValidConsume, type ValidRequest } from "./read";
import { fieldErrors, type InvalidField, invalid, objectIn } from "./refusal";
import { inlineKey, inlineReleaseRequest, inlineRequest, inlineSettleRequest } from "./schema";

/**
 * Limits that the caller names itself, in place of a policy's: for a library that has limits of its own and wants them
 * counted here. Their keys can be none of a policy's, which begin with an attribute and a colon.
 */
const PREFIX = "inline/";

type Layers = z.output<typeof inlineRequest>["layers"];

/** @throws Refusal `invalid` with every mistake, or `never-fits`. */
export function readInlineCheck(input: unknown): ValidRequest {
  const { cost = 1, layers } = read(inlineRequest, input);
  return admissible(resolve(layers, cost));
}

/** @throws Refusal as `readInlineCheck` does. */
export function readInlineConsume(input: unknown, idempotency: Idempotency): ValidConsume {
  const { mistakes, ...id } = idOf(idempotency);
  const { cost = 1, layers } = read(inlineRequest, input, mistakes);
  return { ...admissible(resolve(layers, cost)), ...id, aliases: [] };
}

/** @throws Refusal `invalid` */
export function readInlineSettle(input: unknown): ValidChange {
  const { id, cost, layers } = read(inlineSettleRequest, input);
  return { ...resolve(layers, cost), id };
}

/** @throws Refusal `invalid` */
export function readInlineRelease(input: unknown): ValidChange {
  const { id, layers } = read(inlineReleaseRequest, input);
  return { ...resolve(layers, 1), id };
}

/**
 * The key that a caller's own key is counted by.
 * @throws Refusal `invalid`
 */
export function readInlineKey(key: string): string {
  const normal = inlineKey.safeParse(key);
  if (!normal.success) throw invalid(fieldErrors(normal.error));
  return PREFIX + normal.data;
}

function read<T>(schema: z.ZodType<T>, input: unknown, mistakes: InvalidField[] = []): T {
  const request = schema.safeParse(objectIn(input, mistakes));
  const errors = [...mistakes, ...(request.error ? fieldErrors(request.error) : [])];
  if (!request.success || errors.length > 0) throw invalid(errors);
  return request.data;
}

function resolve(layers: Layers, cost: number): ValidRequest {
  const counters = layers.map(({ name, key, limits }) => ({ layer: name, key: PREFIX + key, limits }));
  const policy = {
    name: "inline",
    layers: layers.map(({ name, limits }) => ({ name, by: [], limits, mode: "live" as const })),
  };
  // With the layers: the policy is the same for all limits named inline, and another layer is another decision.
  const identity = identityText([["", digestOf(JSON.stringify(counters.map(({ layer, key }) => [layer, key])))]]);
  return { policy, cost, counters, shadow: [], identity };
}
