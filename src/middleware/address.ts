/** A peer without an address: a Unix socket, or a request that a test made without a connection. */
const NO_ADDRESS = "127.0.0.1";

/**
 * The visitor's address, as the outermost trusted proxy saw it. Without a proxy or its entry, the peer's address.
 * Entries before those of the trusted proxies are ignored: the visitor may have forged them.
 */
export function clientAddress(
  forwardedFor: string | undefined,
  peer: string | undefined,
  trustedProxies: number,
): string {
  const entries = trustedProxies > 0 && forwardedFor !== undefined ? forwardedFor.split(",") : [];
  const entry = entries[entries.length - trustedProxies];
  return (entry && addressIn(entry)) ?? addressIn(peer ?? "") ?? NO_ADDRESS;
}

/** The address in a text without the port, brackets and zone that some proxies write; undefined if there is none. */
export function addressIn(text: string): string | undefined {
  let address = text.trim();
  if (address.startsWith("[")) address = address.slice(1).replace(/\].*$/s, "");
  else if (/^[^:]*:[^:]*$/.test(address)) address = address.replace(/:.*$/s, "");
  address = address.replace(/%.*$/s, "");
  return isIpv4(address) || isIpv6(address) ? address : undefined;
}

function isIpv4(text: string): boolean {
  return /^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(?!$)|$)){4}$/.test(text);
}

/** By the parser of URLs, which every runtime has. */
function isIpv6(text: string): boolean {
  return /^[\da-fA-F:.]+$/.test(text) && URL.canParse(`http://[${text}]`);
}
