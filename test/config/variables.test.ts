import { chmodSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StartFailure } from "../../src/local/failure";
import {
  isGeneratedToken,
  localSettings,
  localVariables,
  namesSet,
  restrictTokenFile,
  sourceOf,
  withTokens,
} from "../../src/local/variables";

function devVars(text?: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "limiter-")), ".dev.vars");
  if (text !== undefined) writeFileSync(path, text);
  return path;
}

test("the environment overrides .dev.vars, which overrides wrangler.toml, and empty values do not count", () => {
  const path = devVars("RATE_LIMIT_CHAT_PER_MIN=2\nRATE_LIMIT_CHAT_PER_HOUR=2\nRATE_LIMIT_CHAT_IP_PER_MIN=\n");
  const wrangler = { RATE_LIMIT_CHAT_PER_MIN: "1", RATE_LIMIT_CHAT_PER_HOUR: "1", RATE_LIMIT_CHAT_IP_PER_MIN: "1" };
  expect(
    localVariables(wrangler, path, { RATE_LIMIT_CHAT_PER_MIN: "3", RATE_LIMIT_CHAT_PER_HOUR: "", HOME: "/" }),
  ).toEqual({
    RATE_LIMIT_CHAT_PER_MIN: "3",
    RATE_LIMIT_CHAT_PER_HOUR: "2",
    RATE_LIMIT_CHAT_IP_PER_MIN: "1",
    LIMITER_PLACEMENT: "shards:1",
  });
});

test("on one machine there is no jurisdiction, wherever it is set", () => {
  const path = devVars("LIMITER_JURISDICTION=eu\n");
  const set = { LIMITER_JURISDICTION: "eu" };
  expect(localVariables(set, path, set)).toEqual({ LIMITER_PLACEMENT: "shards:1" });
});

test("on one machine all keys share one object, unless .dev.vars or the environment places them", () => {
  const placed = (text: string | undefined, environment: NodeJS.ProcessEnv = {}) =>
    localVariables({ LIMITER_PLACEMENT: "shards:8" }, devVars(text), environment).LIMITER_PLACEMENT;
  expect(localVariables({}, devVars(), {}).LIMITER_PLACEMENT).toBe("shards:1");
  expect(placed(undefined)).toBe("shards:1");
  expect(placed("LIMITER_PLACEMENT=shards:2")).toBe("shards:2");
  expect(placed("LIMITER_PLACEMENT=shards:2", { LIMITER_PLACEMENT: "key" })).toBe("key");
});

test("missing tokens are generated and appended to .dev.vars, which only its owner can read", () => {
  const path = devVars("OTHER=1");
  const made = withTokens({}, path);
  expect(readFileSync(path, "utf8")).toBe(
    `OTHER=1\nLIMITER_TOKENS=${made.LIMITER_TOKENS}\nLIMITER_ADMIN_TOKENS=${made.LIMITER_ADMIN_TOKENS}\n`,
  );
  expect(made.LIMITER_TOKENS).not.toBe(made.LIMITER_ADMIN_TOKENS);
  expect(withTokens(localVariables({}, path, {}), path)).toMatchObject(made);
  const fresh = devVars();
  withTokens({}, fresh);
  expect(statSync(fresh).mode & 0o777).toBe(0o600);
});

test("says what to set where no tokens can be kept", () => {
  const start = () => withTokens({}, "/proc/.dev.vars");
  expect(start).toThrow(StartFailure);
  expect(start).toThrow(/\/proc\/\.dev\.vars.* \(E\w+\): set LIMITER_TOKENS and LIMITER_ADMIN_TOKENS/);
});

test("a generated token is recognised, and no other token", () => {
  const made = withTokens({}, devVars());
  expect([made.LIMITER_TOKENS, made.LIMITER_ADMIN_TOKENS].map((token) => isGeneratedToken(String(token)))).toEqual([
    true,
    true,
  ]);
  for (const token of ["", "a", "x".repeat(32), `${made.LIMITER_TOKENS}x`, `x${made.LIMITER_TOKENS}`])
    expect([token, isGeneratedToken(token)]).toEqual([token, false]);
});

test("host, port and data directory can be set in the same places", () => {
  const path = devVars("HOST=127.0.0.2\nPORT= 1234 \nLIMITER_DATA_DIR=here\nLIMITER_PLACEMENT=key\n");
  expect(localSettings({ PORT: 80 }, path, { LIMITER_DATA_DIR: "there", HOST: " " })).toEqual({
    HOST: "127.0.0.2",
    PORT: "1234",
    LIMITER_DATA_DIR: "there",
  });
  expect(localSettings({ PORT: 80 }, devVars(), {})).toEqual({ PORT: "80" });
  // The Worker does not get them.
  expect(localVariables({}, path, {})).toEqual({ LIMITER_PLACEMENT: "key" });
});

test("the source of a variable is the place that overrides the others", () => {
  const path = devVars("LIMITER_TOKENS=a\nLIMITER_ADMIN_TOKENS=\n");
  expect(sourceOf("LIMITER_TOKENS", path, { LIMITER_TOKENS: "b" })).toBe("the environment");
  expect(sourceOf("LIMITER_TOKENS", path, { LIMITER_TOKENS: " " })).toBe(path);
  expect(sourceOf("LIMITER_ADMIN_TOKENS", path, {})).toBe("wrangler.toml");
});

test("the names of set variables come from all places, each once, without empty variables", () => {
  const path = devVars("B=1\nC=\n");
  expect(namesSet({ A: 1, B: {} }, path, { C: " ", D: "1" }).sort()).toEqual(["A", "B", "D"]);
});

describe("a .dev.vars that others can read", () => {
  const modeOf = (path: string) => statSync(path).mode & 0o777;
  const readable = (text: string) => {
    const path = devVars(text);
    chmodSync(path, 0o644);
    return path;
  };

  test("is restricted to its owner before tokens are added", () => {
    const path = readable("OTHER=1\n");
    withTokens({}, path);
    expect(modeOf(path)).toBe(0o600);
  });

  test.each([
    "LIMITER_TOKENS=a\n",
    "LIMITER_ADMIN_TOKENS=a\n",
    "# LIMITER_TOKENS=a\n",
    "#export LIMITER_ADMIN_TOKENS = a\n",
    "LIMITER_TOKENS=a\nLIMITER_TOKENS=\n",
    "LIMITER_TOKENS=\n'a'\n",
    "LIMITER_TOKENS_OLD=a\n",
  ])("is restricted to its owner if it has %j", (text) => {
    const path = readable(text);
    restrictTokenFile(path);
    expect(modeOf(path)).toBe(0o600);
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  test("is left unchanged if it has no tokens", () => {
    const path = readable("RATE_LIMIT_CHAT_PER_MIN=3\nLIMITER_TOKENS=\n");
    restrictTokenFile(path);
    restrictTokenFile(devVars());
    expect(modeOf(path)).toBe(0o644);
  });
});

test("tokens of either kind that are set are kept", () => {
  const path = devVars("");
  const digests = { LIMITER_TOKEN_DIGESTS: `a caller sha256:${"a".repeat(64)}` };
  for (const set of [{ LIMITER_TOKENS: "a" }, { LIMITER_ADMIN_TOKENS: "b" }, digests])
    expect(withTokens(set, path)).toEqual(set);
  expect(readFileSync(path, "utf8")).toBe("");
});
