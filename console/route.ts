/** The page that the fragment of the URL names. */
export type Route =
  | { readonly page: "overview" }
  | { readonly page: "policies" }
  | { readonly page: "overrides" }
  /** All orders, or those about a key. */
  | { readonly page: "audit"; readonly key?: string }
  | { readonly page: "key"; readonly key: string };

export function routeOf(hash: string): Route {
  const [, page, key] = /^#\/(policies|overrides|audit|keys)(?:\/(.+))?$/.exec(hash) ?? [];
  if ((page === "policies" || page === "overrides") && key === undefined) return { page };
  if (page === "audit") return { page, ...(key !== undefined && { key: decode(key) }) };
  if (page === "keys" && key !== undefined) return { page: "key", key: decode(key) };
  return { page: "overview" };
}

export function hrefOfKey(key: string): string {
  return `#/keys/${encodeURIComponent(key)}`;
}

/** The page of the orders about a key. */
export function hrefOfAudit(key: string): string {
  return `#/audit/${encodeURIComponent(key)}`;
}

/** The decoded text; the text itself if it can't be decoded, as it may be written by hand. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The key that a search text means: an attribute with a value, or else an address or a user. An address may be in any
 * spelling: the service knows its normal form.
 */
export function keyOf(text: string, attributes: readonly string[]): string {
  const trimmed = text.trim();
  const attribute = attributes.find((attribute) => trimmed.startsWith(`${attribute}:`));
  if (attribute !== undefined && attribute !== "ip") return trimmed;
  const value = attribute === undefined ? trimmed : trimmed.slice("ip:".length).trim();
  const address = addressIn(value);
  if (address !== undefined) return `ip:${address}`;
  return attribute === undefined ? `user:${value}` : `ip:${value}`;
}

const IPV4 = /^\d+[.]\d+[.]\d+[.]\d+$/;
const IPV6 = /^(?=.*:)[\da-f:.]+(\/\d+)?$/i;

/** The address in a text as logs and URLs have it: also in brackets, with a port, or with a zone. Undefined if it has none. */
function addressIn(text: string): string | undefined {
  const address = text
    .replace(/^\[(.*)\](:\d+)?$/, "$1")
    .replace(/^(\d+[.]\d+[.]\d+[.]\d+):\d+$/, "$1")
    .replace(/%.*$/, "");
  if (IPV4.test(address)) return address;
  // Eight groups, the last two perhaps dotted, or fewer with a gap. Otherwise `dead:beef` is a user.
  const groups = address.split(":").length + (address.includes(".") ? 1 : 0);
  return IPV6.test(address) && (address.includes("::") || groups === 8) ? address : undefined;
}
