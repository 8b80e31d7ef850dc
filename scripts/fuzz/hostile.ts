import type { Chance } from "../../tools/chance";

/** Text that programs are known to mishandle. */
export const TEXTS: readonly string[] = [
  "",
  " ",
  "\u0000",
  "\u00a0\u2003",
  "\ufeff",
  "\u202e\u2066",
  "\u007f\u0085",
  "\ud800",
  "\udfff\ud800",
  "👩‍👩‍👧",
  "ﷺ".repeat(80),
  "é".repeat(129),
  "a".repeat(257),
  "a".repeat(9_000),
  "a\u0300".repeat(40),
  "__proto__",
  "constructor",
  "toString",
  "null",
  "undefined",
  "NaN",
  "0",
  "-1",
  "1e999",
  "../../etc/passwd",
  "%00%2e%2e%2f",
  "user:x",
  "ip:1.2.3.4",
  "inline/x",
  "'; DROP TABLE pages_v1; --",
  '"}],"allowed":true',
  "<script>alert(1)</script>",
  "{{7*7}}",
  "127.0.0.1",
  "::ffff:1.2.3.4",
  "1.2.3.4\n",
  "fe80::1%eth0",
  "2001:db8::/64",
  "999999999999999999999/second",
  "5 per 0 minutes",
  "5/minute",
  "1000000000 per 31 days",
];

/** JSON that no serializer writes, and text that is almost JSON. A body generated from a schema is never like that. */
export function hostileJson(text: string, chance: Chance): string {
  const depth = chance.of([100, 1_000, 4_000]);
  const value = chance.of([
    "1e999",
    "-0",
    "1.0",
    "1e-999",
    `1${"0".repeat(400)}`,
    "9007199254740993",
    "NaN",
    "0x10",
    "01",
    "'x'",
    '"\\ud800"',
    '"\\u0000"',
    '"\\x41"',
    '"\n"',
    "undefined",
    '{"__proto__":{"cost":1},"constructor":{"prototype":{}},"toJSON":3}',
    "[".repeat(depth) + "]".repeat(depth),
    `${'{"a":'.repeat(depth)}1${"}".repeat(depth - 1)}`,
  ]);
  const name = chance.of(["cost", "policy", "subject", "requests", "layers", "id", "__proto__"]);
  return chance.of([
    value,
    // The value in place of a number, in a field of its own, and in a duplicate field.
    text.replace(/(?<=:)\d+/, () => value),
    text.replace("{", () => `{"${name}":${value},`),
    text.replace(/}$/, () => `,"${name}":${value}}`),
    text.slice(0, chance.below(text.length + 1)),
    text + chance.of(["}", ",", "\u0000", "{}", "x"]),
  ]);
}

/** The bytes with up to four changes: some cut out, some inserted. */
export function mutatedBytes(bytes: Buffer, chance: Chance): Buffer {
  let mutated = bytes;
  for (let i = 1 + chance.below(4); i > 0; i--) {
    const at = chance.below(mutated.length + 1);
    const cut = chance.of([0, 0, 1, 1, 1 + chance.below(20)]);
    const inserted = chance.is(0.6) ? randomBytes(chance, 1 + chance.below(3)) : Buffer.alloc(0);
    mutated = Buffer.concat([mutated.subarray(0, at), inserted, mutated.subarray(at + cut)]);
  }
  return mutated;
}

export function randomBytes(chance: Chance, length: number): Buffer {
  // Bytes with a meaning in HTTP, JSON or URLs are more frequent.
  const special = Buffer.from('\r\n\0 :;,"\\/%?#{}[]\u007f', "latin1");
  return Buffer.from(
    Array.from({ length }, () =>
      chance.is(0.3) ? (special[chance.below(special.length)] as number) : chance.below(256),
    ),
  );
}
