import { Address4, Address6 } from "ip-address";

/**
 * The normal form of an IP address, so that one host is one key however its address is spelt: IPv4 dotted, also where
 * it was mapped into IPv6; IPv6 as its prefix of `ipv6PrefixBits`, in the spelling of RFC 5952.
 *
 * Undefined for anything else. The library reads more than addresses, a subnet and a zone: neither names a caller.
 */
export function normalAddress(text: string, ipv6PrefixBits: number): string | undefined {
  if (!/^[0-9a-f.:]+$/i.test(text)) return undefined;
  if (Address4.isValid(text)) return text;
  if (!Address6.isValid(text)) return undefined;
  const address = new Address6(text);
  if (address.isMapped4()) return address.to4().correctForm();
  return `${new Address6(`${text}/${ipv6PrefixBits}`).startAddress().correctForm()}/${ipv6PrefixBits}`;
}
