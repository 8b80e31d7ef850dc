import { fieldsOf } from "./decision.js";
import type { Subject } from "./requests.js";

/**
 * The attributes as texts, for the wire.
 * @throws TypeError that names the attribute with an unusable value.
 */
export function textsOf(subject: Subject): Record<string, string | null | undefined> {
  return Object.fromEntries(Object.entries(subject).map(([name, value]) => [name, textOf(name, value)]));
}

function textOf(name: string, value: unknown): string | null | undefined {
  if (value === undefined || value === null || typeof value === "string") return value;
  // Unsafe integers are refused: two of them may have the same digits, and would share a counter.
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return String(value);
  const what = typeof value === "number" ? `the number ${value}` : `of type ${typeof value}`;
  throw new TypeError(`subject.${name} is ${what}: use a string, a safe integer or a BigInt`);
}

/**
 * Whether the limits in a reply can be those of this subject. An IPv6 address matches any: the service normalizes it.
 */
export function matchSubject(
  subject: Readonly<Record<string, string | null | undefined>>,
  limits: readonly unknown[],
): boolean {
  return limits.every((limit) => {
    const [, attribute = "", value = ""] = /^([^:]*):(.*)$/s.exec(String(fieldsOf(limit).key)) ?? [];
    const sent = Object.hasOwn(subject, attribute) ? (subject[attribute]?.trim() ?? "") : "";
    return (attribute === "ip" && sent.includes(":")) || sent === value;
  });
}
