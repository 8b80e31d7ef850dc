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

/** The key that a search text means: an attribute with a value, or else an address or a user. */
export function keyOf(text: string, attributes: readonly string[]): string {
  const trimmed = text.trim();
  if (attributes.some((attribute) => trimmed.startsWith(`${attribute}:`))) return trimmed;
  const isAddress =
    /^\d+[.]\d+[.]\d+[.]\d+$/.test(trimmed) || /^[\da-f.]*:[\da-f.]*:[\da-f:.]*(\/\d+)?$/i.test(trimmed);
  return `${isAddress ? "ip" : "user"}:${trimmed}`;
}
