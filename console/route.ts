/** Which page the fragment of the address names. */
export type Route =
  | { readonly page: "overview" }
  | { readonly page: "policies" }
  | { readonly page: "key"; readonly key: string };

export function routeOf(hash: string): Route {
  const [, page, key] = /^#\/(policies|keys)(?:\/(.+))?$/.exec(hash) ?? [];
  if (page === "policies" && key === undefined) return { page };
  if (page === "keys" && key !== undefined) return { page: "key", key: decoded(key) };
  return { page: "overview" };
}

export function hrefOfKey(key: string): string {
  return `#/keys/${encodeURIComponent(key)}`;
}

/** Somebody may have written it by hand: what can't be decoded is taken as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What somebody looks for, as a key: one of `attributes` and a value, or else an address or a user. */
export function keyOf(text: string, attributes: readonly string[]): string {
  const wanted = text.trim();
  if (attributes.some((attribute) => wanted.startsWith(`${attribute}:`))) return wanted;
  const isAddress = /^\d+[.]\d+[.]\d+[.]\d+$/.test(wanted) || /^[\da-f.]*:[\da-f.]*:[\da-f:.]*(\/\d+)?$/i.test(wanted);
  return `${isAddress ? "ip" : "user"}:${wanted}`;
}
