import { fieldsOf } from "./decision.js";
import type { Id, Subject } from "./requests.js";

const IPV6_BITS = 128n;

/**
 * The attributes as texts, for the wire.
 * @throws TypeError that names the attribute with an unusable value.
 */
export function textsOf(subject: Subject): Record<string, string | null | undefined> {
  return Object.fromEntries(
    Object.entries(subject).map(([name, value]) => [
      name,
      value === undefined || value === null ? value : idTextOf(`subject.${name}`, value),
    ]),
  );
}

/**
 * The id as text, for the wire.
 * @throws TypeError, with its name, for any other value.
 */
export function idTextOf(name: string, value: Id): string {
  if (typeof value === "string") return value;
  // Unsafe integers are refused: two of them may have the same digits, and would share a counter.
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return String(value);
  const what = typeof value === "number" ? `the number ${value}` : `of type ${typeof value}`;
  throw new TypeError(`${name} is ${what}: use a string, a safe integer or a BigInt`);
}

/** Whether the limits in a reply can be those of this subject. */
export function matchSubject(
  subject: Readonly<Record<string, string | null | undefined>>,
  limits: readonly unknown[],
): boolean {
  return limits.every((limit) => {
    const [key, attribute = "", value = ""] = /^([^:]*):(.*)$/s.exec(String(fieldsOf(limit).key)) ?? [];
    if (key === undefined) return false;
    const sent = Object.hasOwn(subject, attribute) ? (subject[attribute]?.trim() ?? "") : "";
    return sent === value || (attribute === "ip" && sent.includes(":") && isWithin(sent, value));
  });
}

/** Whether the service may count an IPv6 address by this network. True if one of them can't be parsed here. */
function isWithin(address: string, network: string): boolean {
  const [, counted = network, prefix = IPV6_BITS] = /^(.*?)(?:\/(\d+))?$/.exec(network) ?? [];
  const isIpv4 = !counted.includes(":");
  const sent = bitsOf(address);
  const expected = bitsOf(isIpv4 ? `::${counted}` : counted);
  if (sent === undefined || expected === undefined) return true;
  // An IPv4 address embedded in IPv6, mapped or NAT64: both end with it.
  if (isIpv4) return BigInt.asUintN(32, sent) === expected;
  const rest = IPV6_BITS - BigInt(prefix);
  return sent >> rest === expected >> rest;
}

/** An IPv6 address as a number. The runtime's URL parser knows every spelling of one. */
function bitsOf(address: string): bigint | undefined {
  const url = `http://[${address}]`;
  if (!URL.canParse(url)) return undefined;
  const [head = "", tail] = new URL(url).hostname.slice(1, -1).split("::");
  const groupsIn = (text = "") => text.split(":").filter((group) => group !== "");
  const missing = 8 - groupsIn(head).length - groupsIn(tail).length;
  const groups = [...groupsIn(head), ...Array<string>(missing).fill("0"), ...groupsIn(tail)];
  return BigInt(`0x${groups.map((group) => group.padStart(4, "0")).join("")}`);
}
