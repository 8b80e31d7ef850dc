import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/config/config";
import type { ConfigError } from "../../src/config/mistake";
import { tokenLine } from "../../src/config/token-digests";

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const A = digest("a");
const B = digest("b");

const tokensOf = (text: unknown) => readConfig({ LIMITER_TOKEN_DIGESTS: text }).tokenDigests;

function mistakesOf(text: unknown): string[] {
  try {
    tokensOf(text);
    return [];
  } catch (error) {
    return (error as ConfigError).mistakes.map(({ where, what }) => `${where}: ${what}`);
  }
}

const ENDLESS = { policies: undefined, endsAtMs: Number.POSITIVE_INFINITY };

test("a token has a name, a role and a digest, and may have policies and an end", () => {
  const text = `
    chat-backend caller policies=chat+inline until=2030-01-01T01:00:00+01:00 ${A},
    grafana  metrics-only ${B.toUpperCase().replace("SHA", "sha")}
    on-call admin until=2030-01-01T00:00:00Z ${digest("c")}
  `;
  const endsAtMs = Date.UTC(2030, 0, 1);
  expect(tokensOf(text)).toEqual([
    { name: "chat-backend", role: "caller", policies: new Set(["chat", "inline"]), endsAtMs, sha256: "a".repeat(64) },
    { name: "grafana", role: "metrics-only", ...ENDLESS, sha256: "b".repeat(64) },
    { name: "on-call", role: "admin", ...ENDLESS, endsAtMs, sha256: "c".repeat(64) },
  ]);
});

test("a token is written as it is read", () => {
  const lines = [
    `a caller ${A}`,
    `b caller policies=chat+upload ${B}`,
    `c metrics-only until=2030-01-01T00:00:00.000Z ${digest("c")}`,
  ];
  expect(tokensOf(lines.join()).map(tokenLine)).toEqual(lines);
});

test("nothing set is no token", () => {
  expect(tokensOf(" , \n ,")).toEqual([]);
  expect(tokensOf(undefined)).toEqual([]);
});

test("two tokens of one name are in force at once if at most one of them has no end", () => {
  const old = `a caller until=2030-01-01T00:00:00Z ${A}`;
  for (const lines of [
    [old, `a caller ${B}`],
    [`a caller ${B}`, old],
    [old, `a caller until=2031-01-01T00:00:00Z ${B}`],
  ])
    expect(tokensOf(lines.join("\n")).map(({ name }) => name)).toEqual(["a", "a"]);
});

const SHAPE = "must be NAME ROLE [policies=POLICY+POLICY] [until=INSTANT] sha256:DIGEST";
const UNTIL = "until= must be an instant, like 2030-01-01T00:00:00Z";
const POLICIES = "policies= must name policies with + between them, like policies=chat+upload";

describe("each mistake says which token has it:", () => {
  test.each([
    [5, `LIMITER_TOKEN_DIGESTS: must be text: each token ${SHAPE.slice("must be ".length)}`],
    ["hunter2", `LIMITER_TOKEN_DIGESTS/0: ${SHAPE}`],
    [`a caller hunter2`, `LIMITER_TOKEN_DIGESTS/0: ${SHAPE}`],
    [`a caller ends=2030-01-01T00:00:00Z ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${SHAPE}`],
    [`a caller ${A} until=2030-01-01T00:00:00Z`, `LIMITER_TOKEN_DIGESTS/0: ${SHAPE}`],
    [
      `a caller ${A}, A caller ${B}`,
      "LIMITER_TOKEN_DIGESTS/1: the name must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter",
    ],
    [`a root ${A}`, "LIMITER_TOKEN_DIGESTS/0: the role must be one of caller, admin, metrics-only"],
    [`a caller policies= ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${POLICIES}`],
    [`a caller policies=chat;upload ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${POLICIES}`],
    [`a caller policies=chat=upload ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${POLICIES}`],
    [`a caller until=2030-01-01T00:00:00Z=x ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${UNTIL}`],
    [`a admin policies=chat ${A}`, "LIMITER_TOKEN_DIGESTS/0: only a caller token may have policies="],
    [`a caller until=2030-01-01 ${A}`, `LIMITER_TOKEN_DIGESTS/0: ${UNTIL}`],
    [
      `a caller policies=chat policies=upload ${A}`,
      "LIMITER_TOKEN_DIGESTS/0: must have policies= and until= once at most",
    ],
    [
      "a caller sha256:hunter2",
      "LIMITER_TOKEN_DIGESTS/0: the digest must be sha256: and 64 hexadecimal digits, as npm run token prints it",
    ],
    [`a caller ${A}, b caller ${A}`, "LIMITER_TOKEN_DIGESTS/1: the digest must not be that of another token"],
    [
      `a caller ${A}\na caller ${B}`,
      "LIMITER_TOKEN_DIGESTS/1: another token has this name: give the older of them its end, like until=2030-01-01T00:00:00Z",
    ],
    [
      `a caller until=2030-01-01T00:00:00Z ${A}, a admin ${B}`,
      "LIMITER_TOKEN_DIGESTS/1: must have the role of the other token of this name",
    ],
  ])("%j", (text, mistake) => {
    expect(mistakesOf(text)).toEqual([mistake]);
    expect(mistakesOf(text).join()).not.toContain("hunter2");
  });

  test("all mistakes of all tokens at once", () => {
    const places = mistakesOf(`A root policies=! until=soon sha256:x\nb caller ${A}, c, D caller ${B}`).map(
      (mistake) => mistake.split(":")[0],
    );
    expect(places).toEqual([..."000000", "2", "3"].map((i) => `LIMITER_TOKEN_DIGESTS/${i}`));
  });
});
