import { withLayer } from "../core/identity";
import type { Layer, Policy } from "../core/policy";
import { normalAddress, normalPrefix } from "./address";
import { digestOf } from "./digest";
import { type InvalidField, pointerOf } from "./refusal";

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

/** The key that counts an attribute's value. */
class Key {
  #digest: string | undefined;

  constructor(readonly text: string) {}

  /** Worked out once, and only if an identity needs it. */
  get digest(): string {
    this.#digest ??= digestOf(this.text);
    return this.#digest;
  }
}

/** The key of an attribute's value, or the mistake in the value. */
type ReadValue = Key | { readonly detail: string };

/** The key that each layer of a policy counts by, in the order of the layers. */
export type LayerKeys = readonly (Key | undefined)[];

/**
 * The keys that a policy's layers count by. They are valid if there are no errors. A layer in shadow has no key if the
 * subject has none of its attributes: without the layer the request is valid.
 */
export function layerKeysOf(
  { layers }: Policy,
  subject: Readonly<Record<string, unknown>>,
  ipv6PrefixBits: number,
): { keys: LayerKeys; errors: readonly InvalidField[] } {
  const keys: (Key | undefined)[] = [];
  let mistakes: Map<string, string> | undefined;
  for (const layer of layers) {
    let first: ReadValue | undefined;
    for (const attribute of layer.by) {
      const read = readValue(subject, attribute, ipv6PrefixBits);
      first ??= read;
      if (read === undefined || read instanceof Key) continue;
      // Validate unused attributes too: another request may count by them.
      mistakes ??= new Map();
      mistakes.set(attribute, read.detail);
    }
    if (first === undefined && layer.mode === "live") {
      mistakes ??= new Map();
      mistakes.set(String(layer.by[0]), missingDetail(layer));
    }
    keys.push(first instanceof Key ? first : undefined);
  }
  return { keys, errors: mistakes ? errorsOf(mistakes) : [] };
}

function errorsOf(mistakes: ReadonlyMap<string, string>): InvalidField[] {
  return [...mistakes].map(([attribute, detail]) => ({ pointer: pointerOf(["subject", attribute]), detail }));
}

/** The layers by which a policy identifies a subject: the live layers, or all layers if none is live. */
export function identityLayersOf({ layers, live }: Policy): readonly Layer[] {
  return live.length === 0 ? layers : live;
}

/** The keys that identify a subject. */
export function identityKeysOf({ layers, live }: Policy, keys: LayerKeys): string[] {
  return keys.flatMap((key, i) => (key && (live.length === 0 || layers[i]?.mode === "live") ? key.text : []));
}

/**
 * The identity of a subject as a policy sees it, the same however the subject is spelt. Layers in shadow come and go,
 * so they are part of it only if no layer is live.
 */
export function identityOf({ layers, live }: Policy, keys: LayerKeys): string {
  let identity = "";
  for (let i = 0; i < layers.length; i++) {
    const { name, mode } = layers[i] as Layer;
    if (live.length === 0 || mode === "live") identity = withLayer(identity, name, keys[i]?.digest ?? NO_KEY);
  }
  return identity;
}

/** Stands for the digest if a layer in shadow has no key. */
const NO_KEY = "-";

/** The normal form `<attribute>:<value>` of a key, or what is wrong with the key. */
export function normalKey(key: string, ipv6PrefixBits: number): Normalized {
  const [, attribute = "", value = ""] = KEY.exec(key) ?? [];
  if (attribute === "") return { ok: false, detail: "must be <attribute>:<value>, such as user:u_1" };
  // In a key an IPv6 address is a prefix, which is no valid address.
  const [address = "", bits] = value.split("/");
  const isPrefix = attribute === "ip" && bits === String(ipv6PrefixBits);
  const normal = isPrefix
    ? normalIp(normalPrefix(address, ipv6PrefixBits))
    : normalValue(attribute, value, ipv6PrefixBits);
  return normal.ok ? { ok: true, value: `${attribute}:${normal.value}` } : normal;
}

/** The mistake in a key; undefined if it is in its normal form. */
export function mistakeInKey(key: string, ipv6PrefixBits: number): string | undefined {
  const normal = normalKey(key, ipv6PrefixBits);
  if (!normal.ok) return normal.detail;
  return normal.value === key ? undefined : `must be in its normal form, ${normal.value}`;
}

/**
 * By prefix, attribute and value. Cached, since the same callers come again and again. Values are cached with their mistakes.
 * The cache is emptied when it is full.
 */
const readValues = new Map<number, Map<string, Map<string, ReadValue>>>();
const MOST_READ_VALUES = 8_192;
let readValueCount = 0;

/** The value of an attribute that the subject has: not missing, not null, not blank. The schema reports what is not text. */
function readValue(
  subject: Readonly<Record<string, unknown>>,
  attribute: string,
  ipv6PrefixBits: number,
): ReadValue | undefined {
  const given = Object.hasOwn(subject, attribute) ? subject[attribute] : undefined;
  if (typeof given !== "string") return undefined;
  const value = given.trim();
  if (value === "") return undefined;
  const cached = readValues.get(ipv6PrefixBits)?.get(attribute)?.get(value);
  if (cached) return cached;
  const normal = normalValue(attribute, value, ipv6PrefixBits);
  const read = normal.ok ? new Key(`${attribute}:${normal.value}`) : normal;
  // V8 keeps a long text in memory while a part of it, such as the trimmed value, is in use. So only short texts are cached.
  if (given.length <= LONGEST_VALUE_BYTES) keepValue(ipv6PrefixBits, attribute, value, read);
  return read;
}

function keepValue(ipv6PrefixBits: number, attribute: string, value: string, read: ReadValue): void {
  if (readValueCount >= MOST_READ_VALUES) {
    readValues.clear();
    readValueCount = 0;
  }
  const byAttribute = readValues.get(ipv6PrefixBits) ?? new Map<string, Map<string, ReadValue>>();
  const byValue = byAttribute.get(attribute) ?? new Map<string, ReadValue>();
  readValues.set(ipv6PrefixBits, byAttribute.set(attribute, byValue.set(value, read)));
  readValueCount++;
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
