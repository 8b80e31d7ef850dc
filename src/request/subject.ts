import { identityText } from "../core/identity";
import type { Layer, Policy } from "../core/policy";
import { normalAddress, normalPrefix } from "./address";
import { keyDigestOf } from "./digest";
import { type InvalidField, pointerOf } from "./refusal";

/** Who a request is about: attributes by name. */
export type Subject = Readonly<Record<string, string | null>>;

const LONGEST_VALUE_BYTES = 256;
const ATTRIBUTE = "[a-z0-9_]{1,64}";
const KEY = new RegExp(`^(${ATTRIBUTE}):(.*)$`, "s");

const NO_CONTROL = String.raw`\u0000-\u001f\u007f-\u009f`;
const TEXT = String.raw`[^${NO_CONTROL}]*[^\s${NO_CONTROL}][^${NO_CONTROL}]*`;
/** Constraints on an attribute's value and on a key, as far as JSON Schema can express them. */
export const TEXT_SCHEMA = { pattern: `^${TEXT}$`, maxLength: LONGEST_VALUE_BYTES };
export const KEY_SCHEMA = { pattern: `^${ATTRIBUTE}:${TEXT}$` };

const utf8 = new TextEncoder();

/** An attribute's value in its normal form, or what is wrong with it. */
type Normalized = { readonly ok: true; readonly value: string } | { readonly ok: false; readonly detail: string };

/** The attributes that are present, each with its value in normal form. */
export type PresentAttributes = ReadonlyMap<string, Normalized>;

/** The attributes that the subject has: not missing, not null, and not blank. */
export function presentIn(subject: Subject, attributes: readonly string[], ipv6PrefixBits: number): PresentAttributes {
  const present = new Map<string, Normalized>();
  for (const attribute of attributes) {
    const value = Object.hasOwn(subject, attribute) ? subject[attribute]?.trim() : undefined;
    if (value) present.set(attribute, cachedNormalValue(attribute, value, ipv6PrefixBits));
  }
  return present;
}

/**
 * The keys that a policy's layers count by, in the order of the layers. They are valid if there are no errors. A layer
 * in shadow has no key if the subject has none of its attributes: without the layer the request is valid.
 */
export function layerKeysOf(
  policy: Policy,
  present: PresentAttributes,
): { keys: (string | undefined)[]; errors: InvalidField[] } {
  const keys: (string | undefined)[] = [];
  const mistakes = new Map<string, string>();
  for (const layer of policy.layers) {
    let key: string | undefined;
    for (const attribute of layer.by) {
      const normal = present.get(attribute);
      // Validate unused attributes too: another request may count by them.
      if (normal?.ok === false) mistakes.set(attribute, normal.detail);
      if (normal) key ??= normal.ok ? `${attribute}:${normal.value}` : "";
    }
    if (key === undefined && layer.mode === "live") mistakes.set(String(layer.by[0]), missingDetail(layer));
    keys.push(key);
  }
  return {
    keys,
    errors: [...mistakes].map(([attribute, detail]) => ({ pointer: pointerOf(["subject", attribute]), detail })),
  };
}

/** The keys that identify a subject, out of those of `layerKeysOf`: live layers, or all layers if none is live. */
export function identityKeysOf(policy: Policy, keys: readonly (string | undefined)[]): string[] {
  return identityLayersOf(policy, keys).flatMap(({ key }) => key ?? []);
}

/**
 * The identity of a subject as a policy sees it, the same however the subject is spelt. Layers in shadow come and go,
 * so they are part of it only if no layer is live.
 */
export function identityOf(policy: Policy, keys: readonly (string | undefined)[]): string {
  return identityText(identityLayersOf(policy, keys).map(({ name, key }) => [name, key ? keyDigestOf(key) : NO_KEY]));
}

/** Stands for the digest if a layer in shadow has no key. */
const NO_KEY = "-";

function identityLayersOf({ layers }: Policy, keys: readonly (string | undefined)[]) {
  const all = layers.map(({ name, mode }, i) => ({ name, mode, key: keys[i] }));
  const live = all.filter(({ mode }) => mode === "live");
  return live.length > 0 ? live : all;
}

/** The mistake in a key; undefined if it is in its normal form `<attribute>:<value>`. */
export function mistakeInKey(key: string, ipv6PrefixBits: number): string | undefined {
  const [, attribute = "", value = ""] = KEY.exec(key) ?? [];
  if (attribute === "") return "must be <attribute>:<value>, such as user:u_1";
  // In a key an IPv6 address is a prefix, which is no valid address.
  const [address = "", bits] = value.split("/");
  const isPrefix = attribute === "ip" && bits === String(ipv6PrefixBits);
  const normal = isPrefix
    ? normalIp(normalPrefix(address, ipv6PrefixBits))
    : normalValue(attribute, value, ipv6PrefixBits);
  if (!normal.ok) return normal.detail;
  return normal.value === value ? undefined : `must be in its normal form, ${attribute}:${normal.value}`;
}

/** Cached, since the same few callers come again and again. Their values are at most 256 bytes long. */
const normalValues = new Map<string, Normalized>();
const MOST_NORMAL_VALUES = 4_096;

function cachedNormalValue(attribute: string, value: string, ipv6PrefixBits: number): Normalized {
  if (value.length > LONGEST_VALUE_BYTES) return normalValue(attribute, value, ipv6PrefixBits);
  const name = `${ipv6PrefixBits} ${attribute} ${value}`;
  const cached = normalValues.get(name);
  if (cached !== undefined) return cached;
  const normal = normalValue(attribute, value, ipv6PrefixBits);
  if (normalValues.size >= MOST_NORMAL_VALUES) normalValues.clear();
  normalValues.set(name, normal);
  return normal;
}

function normalValue(attribute: string, value: string, ipv6PrefixBits: number): Normalized {
  return attribute === "ip" ? normalIp(normalAddress(value, ipv6PrefixBits)) : normalText(value);
}

function normalIp(address: string | undefined): Normalized {
  if (address !== undefined) return { ok: true, value: address };
  return {
    ok: false,
    detail: "must be an IPv4 address of four decimal numbers or an IPv6 address, without port or zone",
  };
}

/** Normalizes an attribute's value: well-formed Unicode of at most 256 bytes without control characters, trimmed. */
export function normalText(value: string): Normalized {
  if (value.trim() === "") return { ok: false, detail: "must not be empty" };
  if (!value.isWellFormed()) return { ok: false, detail: "must be well-formed Unicode" };
  if (/\p{Cc}/u.test(value)) return { ok: false, detail: "must not contain control characters" };
  if (utf8.encode(value).length > LONGEST_VALUE_BYTES)
    return { ok: false, detail: `must be at most ${LONGEST_VALUE_BYTES} bytes of UTF-8` };
  return { ok: true, value: value.trim() };
}

function missingDetail({ name, by }: Layer): string {
  return `missing: layer "${name}" counts by ${by.join(", else ")}`;
}
