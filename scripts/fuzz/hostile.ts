import type { Chance } from "../../tools/chance";

/** Text that programs have stumbled over. */
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
  "1000000 per 31 days",
];

/** JSON that no serializer would write. */
const LITERALS: readonly string[] = [
  "1e999",
  "-1e999",
  "1e-999",
  "-0",
  "0.1",
  "1.5",
  "9007199254740993",
  "123456789012345678901234567890",
  `1${"0".repeat(400)}`,
  "1000000",
  "1000001",
  "true",
  "null",
  "[]",
  "{}",
  '{"__proto__":{"cost":1}}',
  '{"constructor":{"prototype":{}}}',
  '{"toString":1,"valueOf":2,"toJSON":3}',
  "NaN",
  "Infinity",
  "undefined",
  "0x10",
  "01",
  "+1",
  "'x'",
  '"\\ud800"',
  '"\\u0000"',
  '"\\x41"',
  '"\n"',
  "//",
];

/** A JSON value, as text, that is rarely what is wanted: sometimes not even JSON. */
export function hostileJson(chance: Chance): string {
  if (chance.is(0.3)) return JSON.stringify(chance.of(TEXTS));
  if (chance.is(0.1)) return nested(chance);
  if (chance.is(0.1)) return String((chance.next() - 0.5) * 10 ** chance.below(30));
  return chance.of(LITERALS);
}

function nested(chance: Chance): string {
  const depth = chance.of([10, 100, 1_000, 4_000]);
  const [open, close] = chance.of([
    ["[", "]"],
    ['{"a":', "}"],
  ] as const);
  return open.repeat(depth) + (chance.is(0.5) ? "1" : "") + close.repeat(chance.is(0.8) ? depth : depth - 1);
}

/** A place in a JSON text where a value is, found by its own rough reading: what it reads need not be JSON any more. */
const VALUE = /"(?:[^"\\]|\\.)*"(?!\s*:)|-?\d+(?:\.\d+)?|true|false|null|\{[^{}]*\}|\[[^[\]]*\]/g;
const NAME = /"(?:[^"\\]|\\.)*"(?=\s*:)/g;

type Mutation = (text: string, chance: Chance) => string;

const MUTATIONS: readonly Mutation[] = [
  (text, chance) => replaceOne(text, VALUE, chance, () => hostileJson(chance)),
  (text, chance) => replaceOne(text, VALUE, chance, () => hostileJson(chance)),
  (text, chance) => replaceOne(text, NAME, chance, () => JSON.stringify(chance.of(TEXTS))),
  // A field twice, and one that nobody knows.
  (text, chance) => replaceOne(text, NAME, chance, (name) => `${name}:${hostileJson(chance)},${name}`),
  (text, chance) => text.replace("{", () => `{${JSON.stringify(chance.of(TEXTS))}:${hostileJson(chance)},`),
  (text, chance) => text.replace("{", () => `{"__proto__":${hostileJson(chance)},`),
  (text, chance) => text.slice(0, chance.below(text.length + 1)),
  (text, chance) => text + chance.of(["}", ",", "\u0000", " ", "{}", "x", "\n".repeat(200)]),
  (_, chance) => hostileJson(chance),
];

/** A JSON text made wrong, or merely strange, in one to three places. */
export function mutatedJson(text: string, chance: Chance): string {
  let mutated = text;
  for (let i = 1 + chance.below(3); i > 0; i--) mutated = chance.of(MUTATIONS)(mutated, chance);
  return mutated;
}

function replaceOne(text: string, pattern: RegExp, chance: Chance, by: (found: string) => string): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { 0: old, index } = chance.of(found);
  return text.slice(0, index) + by(old) + text.slice(index + old.length);
}

/** Bytes with a few of them changed, cut out or put in. */
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
  // Those that mean something to somebody, more often than others.
  const special = Buffer.from('\r\n\0 :;,"\\/%?#{}[]\u007f', "latin1");
  return Buffer.from(
    Array.from({ length }, () =>
      chance.is(0.3) ? (special[chance.below(special.length)] as number) : chance.below(256),
    ),
  );
}
