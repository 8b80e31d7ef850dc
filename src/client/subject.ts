import { fieldsOf } from "./decision.js";
import type { Subject } from "./requests.js";

/**
 * The attributes as the wire has them.
 * @throws TypeError that names the attribute which is no id.
 */
export function textsOf(subject: Subject): Record<string, string | null | undefined> {
  return Object.fromEntries(Object.entries(subject).map(([name, value]) => [name, textOf(name, value)]));
}

function textOf(name: string, value: unknown): string | null | undefined {
  if (value === undefined || value === null || typeof value === "string") return value;
  // Beyond the safe ones two different numbers may be written alike, and would share a counter.
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return String(value);
  const what = typeof value === "number" ? `the number ${value}` : `of type ${typeof value}`;
  throw new TypeError(`subject.${name} is ${what}: use a string, a safe integer or a BigInt`);
}

/**
 * Whether limits that were answered can be this subject's. An address is told by its presence alone where the service may
 * write it in another way.
 */
export function matchSubject(
  subject: Readonly<Record<string, string | null | undefined>>,
  limits: readonly unknown[],
): boolean {
  return limits.every((limit) => {
    const [, attribute = "", value = ""] = /^([^:]*):(.*)$/s.exec(String(fieldsOf(limit).key)) ?? [];
    const asked = Object.hasOwn(subject, attribute) ? (subject[attribute]?.trim() ?? "") : "";
    return attribute === "ip" && asked.includes(":") ? true : asked === value;
  });
}
