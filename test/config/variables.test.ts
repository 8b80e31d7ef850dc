import { mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isMadeHere, localVariables, withTokens } from "../../scripts/local/variables";

function devVars(text?: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "limiter-")), ".dev.vars");
  if (text !== undefined) writeFileSync(path, text);
  return path;
}

test("the environment comes before .dev.vars, and that before wrangler.toml; what is empty does not count", () => {
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

test("on one machine the counters share one object, unless told otherwise", () => {
  const path = devVars();
  expect(localVariables({}, path, {}).LIMITER_PLACEMENT).toBe("shards:1");
  expect(localVariables({ LIMITER_PLACEMENT: "shards:8" }, path, {}).LIMITER_PLACEMENT).toBe("shards:8");
  expect(localVariables({ LIMITER_PLACEMENT: "shards:8" }, path, { LIMITER_PLACEMENT: "key" }).LIMITER_PLACEMENT).toBe(
    "key",
  );
});

test("tokens are made when there are none, and added to what .dev.vars has, for its owner's eyes alone", () => {
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

test("a token that was made here is known again, and another one is not", () => {
  const made = withTokens({}, devVars());
  expect([made.LIMITER_TOKENS, made.LIMITER_ADMIN_TOKENS].map((token) => isMadeHere(String(token)))).toEqual([
    true,
    true,
  ]);
  for (const token of ["", "a", "x".repeat(32), `${made.LIMITER_TOKENS}x`, `x${made.LIMITER_TOKENS}`])
    expect([token, isMadeHere(token)]).toEqual([token, false]);
});

test("tokens that are set, of either kind, are left alone", () => {
  const path = devVars("");
  for (const set of [{ LIMITER_TOKENS: "a" }, { LIMITER_ADMIN_TOKENS: "b" }])
    expect(withTokens(set, path)).toEqual(set);
  expect(readFileSync(path, "utf8")).toBe("");
});
