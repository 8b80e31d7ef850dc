import { Address4, Address6 } from "ip-address";

/** Where NAT64 has IPv4 addresses (RFC 6052): in the last 32 bits, as where they are mapped into IPv6 (RFC 4291). */
const NAT64 = new Address6("64:ff9b::/96");
const IPV4_PREFIX_BITS = 96;

/**
 * The normal form of an IP address, so that one host is one key however its address is spelt: IPv4 dotted, also where
 * it was mapped into IPv6 or translated by NAT64; IPv6 as its prefix of `ipv6PrefixBits`, in the spelling of RFC 5952.
 *
 * Undefined for anything else. The library reads more than addresses, a subnet and a zone: neither names a caller.
 */
export function normalAddress(text: string, ipv6PrefixBits: number): string | undefined {
  const address = parseAddress(text);
  if (!(address instanceof Address6)) return address && text;
  const hasIpv4 = address.isMapped4() || address.isInSubnet(NAT64);
  return hasIpv4 ? address.to4().correctForm() : prefixOf(text, ipv6PrefixBits);
}

/**
 * The same for an address that stands for its whole prefix, as in a key. A prefix of less than 96 bits has addresses without
 * an IPv4 address in them, even where it begins with one that has.
 */
export function normalPrefix(text: string, ipv6PrefixBits: number): string | undefined {
  const isWide = ipv6PrefixBits < IPV4_PREFIX_BITS && parseAddress(text) instanceof Address6;
  return isWide ? prefixOf(text, ipv6PrefixBits) : normalAddress(text, ipv6PrefixBits);
}

function parseAddress(text: string): Address4 | Address6 | undefined {
  if (!/^[0-9a-f.:]+$/i.test(text)) return undefined;
  if (Address4.isValid(text)) return new Address4(text);
  return Address6.isValid(text) ? new Address6(text) : undefined;
}

function prefixOf(text: string, ipv6PrefixBits: number): string {
  return `${new Address6(`${text}/${ipv6PrefixBits}`).startAddress().correctForm()}/${ipv6PrefixBits}`;
}
