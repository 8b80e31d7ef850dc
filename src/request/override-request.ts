import type { Config } from "../config/config";
import { limitText } from "../core/limit";
import type { KeyOverride } from "../core/override";
import type { OverrideToSet } from "../object/protocol";
import type { KeyOverrideBody } from "./admin-schema";
import { LONGEST_OVERRIDE_S, limitsByKind, oneEnd, overrideRequest } from "./override-schema";
import { type InvalidField, isRecord, objectIn, pointerOf, readBySchema } from "./refusal";

type Sent = Readonly<Record<string, unknown>>;

/**
 * Reads the override of a key by its schema and by the policies in force, so that all mistakes are reported together.
 * @throws Refusal `invalid`
 */
export function readOverrideRequest(
  input: unknown,
  key: string,
  { policies }: Pick<Config, "policies">,
  nowMs: number,
): OverrideToSet {
  const sent = objectIn(input);
  const request = readBySchema(overrideRequest, sent, {
    further: [
      ...oneEnd.mistakesIn(sent),
      ...mistakesInEnd(sent, nowMs),
      ...limitsByKind.mistakesIn(sent),
      ...mistakesInLayers(sent, key, policies),
    ],
  });
  const { kind, reason, expires_at: at, expires_in_seconds: seconds = 0, limits: layers } = request;
  const ends = at === undefined ? { inMs: seconds * 1_000 } : { atMs: Date.parse(at) };
  return { kind, reason, ends, ...(layers && { layers }) };
}

/** An override in the words and units of the wire. */
export function overrideBody({ kind, reason, endsAtMs, layers }: KeyOverride): KeyOverrideBody {
  const limits = layers?.map(({ policy, layer, limits }) => ({ policy, layer, limits: limits.map(limitText) }));
  return { kind, reason, expires_at: new Date(endsAtMs).toISOString(), ...(limits && { limits }) };
}

function mistakesInEnd({ expires_at: at, expires_in_seconds: seconds }: Sent, nowMs: number): InvalidField[] {
  if (at === undefined || seconds !== undefined) return [];
  const aheadMs = Date.parse(String(at)) - nowMs;
  if (aheadMs <= 0) return [{ pointer: "/expires_at", detail: "must be in the future" }];
  if (aheadMs > LONGEST_OVERRIDE_S * 1_000)
    return [{ pointer: "/expires_at", detail: "must be at most 366 days ahead" }];
  return [];
}

function mistakesInLayers({ limits }: Sent, key: string, policies: Config["policies"]): InvalidField[] {
  if (!Array.isArray(limits)) return [];
  return limits.flatMap((layer: unknown, i) => (isRecord(layer) ? mistakesInLayer(layer, i, key, policies) : []));
}

function mistakesInLayer(
  { policy: policyName, layer: layerName }: Sent,
  index: number,
  key: string,
  policies: Config["policies"],
): InvalidField[] {
  const mistake = (field: string, detail: string) => [{ pointer: pointerOf(["limits", index, field]), detail }];
  const policy = policies.get(String(policyName));
  if (!policy) return mistake("policy", `must be a policy in force, not "${policyName}"`);
  const layer = policy.layers.find(({ name }) => name === layerName);
  if (!layer) return mistake("layer", `must be a layer of policy "${policyName}", not "${layerName}"`);
  const [attribute = ""] = key.split(":");
  if (layer.by.includes(attribute)) return [];
  return mistake("layer", `must count by ${attribute}: layer "${layerName}" counts by ${layer.by.join(", else ")}`);
}
