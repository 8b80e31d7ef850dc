import { Address4, Address6 } from "ip-address";

/** NAT64 addresses (RFC 6052) have an IPv4 address in their last 32 bits, like IPv4-mapped addresses (RFC 4291). */
const NAT64 = new Address6("64:ff9b::/96");
const IPV4_PREFIX_BITS = 96;

/**
 * The normal form of an IP address, so that a host has one key however its address is spelt. IPv4 is dotted, also if it
 * is mapped into IPv6 or translated by NAT64. IPv6 is its prefix of `ipv6PrefixBits`, spelt as in RFC 5952.
 *
 * Undefined for anything else. The library also reads subnets and zones, which name no caller.
 */
export function normalAddress(text: string, ipv6PrefixBits: number): string | undefined {
  const address = parseAddress(text);
  if (!(address instanceof Address6)) return address && text;
  const hasIpv4 = address.isMapped4() || address.isInSubnet(NAT64);
  return hasIpv4 ? address.to4().correctForm() : prefixOf(text, ipv6PrefixBits);
}

/**
 * The normal form of a prefix, given by its first address, as in a key. A prefix of less than 96 bits also has
 * addresses without an embedded IPv4 address, even if its first address has one.
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
