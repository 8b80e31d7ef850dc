import type { Config } from "../config/config";
import { limitText } from "../core/limit";
import type { KeyOverride } from "../core/override";
import type { OverrideToSet } from "../object/protocol";
import { type KeyOverrideBody, LONGEST_OVERRIDE_S, overrideRequest } from "./admin-schema";
import { fieldErrors, type InvalidField, invalid, isRecord, objectIn, pointer } from "./refusal";

/**
 * Reads what is to override the limits of `key`, by its schema and by the policies in force, so that all mistakes are
 * told together.
 * @throws Refusal `invalid`
 */
export function readOverrideRequest(
  input: unknown,
  key: string,
  { policies }: Pick<Config, "policies">,
  nowMs: number,
): OverrideToSet {
  const sent = objectIn(input);
  const request = overrideRequest.safeParse(sent);
  const told = request.error ? fieldErrors(request.error) : [];
  const untold = mistakesIn(sent, key, policies, nowMs);
  const errors = [...told, ...untold.filter((error) => !told.some(({ pointer }) => pointer === error.pointer))];
  if (!request.success || errors.length > 0) throw invalid(errors);
  const { kind, reason, expires_at: at, expires_in_seconds: seconds = 0, limits: layers } = request.data;
  const ends = at === undefined ? { inMs: seconds * 1_000 } : { atMs: Date.parse(at) };
  return { kind, reason, ends, ...(layers && { layers }) };
}

/** An override in the words and units of the wire. */
export function overrideBody({ kind, reason, endsAtMs, layers }: KeyOverride): KeyOverrideBody {
  const limits = layers?.map(({ policy, layer, limits }) => ({ policy, layer, limits: limits.map(limitText) }));
  return { kind, reason, expires_at: new Date(endsAtMs).toISOString(), ...(limits && { limits }) };
}

/** What no single field shows. */
function mistakesIn(
  input: Readonly<Record<string, unknown>>,
  key: string,
  policies: Config["policies"],
  nowMs: number,
): InvalidField[] {
  const { kind, limits } = input;
  const mistakes = mistakesInExpiry(input, nowMs);
  if (kind === "limits" && limits === undefined)
    mistakes.push({ pointer: "/limits", detail: "missing: an override of kind limits needs them" });
  if ((kind === "exempt" || kind === "ban") && limits !== undefined)
    mistakes.push({ pointer: "/limits", detail: "must be left out: only an override of kind limits has limits" });
  if (Array.isArray(limits))
    limits.forEach((one: unknown, i) => {
      if (isRecord(one)) mistakes.push(...mistakesInLayer(one, i, key, policies));
    });
  return mistakes;
}

function mistakesInExpiry(
  { expires_at: at, expires_in_seconds: seconds }: Readonly<Record<string, unknown>>,
  nowMs: number,
): InvalidField[] {
  if (at === undefined && seconds === undefined)
    return [{ pointer: "/expires_at", detail: "missing: send expires_at or expires_in_seconds" }];
  if (at !== undefined && seconds !== undefined)
    return [
      { pointer: "/expires_in_seconds", detail: "must be left out: send expires_at or expires_in_seconds, not both" },
    ];
  const aheadMs = Date.parse(String(at)) - nowMs;
  if (aheadMs <= 0) return [{ pointer: "/expires_at", detail: "must be in the future" }];
  if (aheadMs > LONGEST_OVERRIDE_S * 1_000)
    return [{ pointer: "/expires_at", detail: "must be at most 366 days ahead" }];
  return [];
}

function mistakesInLayer(
  { policy: policyName, layer: layerName }: Readonly<Record<string, unknown>>,
  index: number,
  key: string,
  policies: Config["policies"],
): InvalidField[] {
  const mistake = (field: string, detail: string) => [{ pointer: pointer(["limits", index, field]), detail }];
  const policy = policies.get(String(policyName));
  if (!policy) return mistake("policy", `must be a policy in force, not "${policyName}"`);
  const layer = policy.layers.find(({ name }) => name === layerName);
  if (!layer) return mistake("layer", `must be a layer of policy "${policyName}", not "${layerName}"`);
  const [attribute = ""] = key.split(":");
  if (layer.by.includes(attribute)) return [];
  return mistake("layer", `must count by ${attribute}: layer "${layerName}" counts by ${layer.by.join(", else ")}`);
}
