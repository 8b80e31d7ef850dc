import { expect, test } from "vitest";
import { VARIABLE_NAMES } from "../../src/config/config";
import { unknownVariables } from "../../src/local/unknown-variables";

test.each([
  ["RATE_LIMIT_CHAT_PER_MINUTE", "RATE_LIMIT_CHAT_PER_MIN"],
  ["RATE_LIMIT_CHAT_PER_HOURS", "RATE_LIMIT_CHAT_PER_HOUR"],
  ["RATE_LIMIT_POLICY", "RATE_LIMIT_POLICIES"],
  ["RATE_LIMIT_TOKENS", "LIMITER_TOKENS"],
  ["LIMITER_ADMIN_TOKEN", "LIMITER_ADMIN_TOKENS"],
  ["LIMITER_CHAT_MODE", "RATE_LIMIT_CHAT_MODE"],
  ["LIMITER_DATA_DIRECTORY", "LIMITER_DATA_DIR"],
])("warns about %s and suggests %s", (name, meant) => {
  expect(unknownVariables([name])).toEqual([`Unknown variable ${name}. Did you mean ${meant}?`]);
});

test("warns about a name that resembles no variable, without a suggestion", () => {
  expect(unknownVariables(["LIMITER_XYZ"])).toEqual(["Unknown variable LIMITER_XYZ. README.md lists all variables."]);
});

test("does not warn about variables, settings of npm start, bindings, and names of other programs", () => {
  const bindings = ["LIMITER_OBJECTS", "LIMITER_STATS", "LIMITER_ANALYTICS", "LIMITER_HUBS", "LIMITER_AUDIT"];
  const others = ["PATH", "PORT", "HOST", "RATE_LIMITS", "MY_RATE_LIMIT_CHAT_PER_MINUTE", "rate_limit_x"];
  expect(unknownVariables([...VARIABLE_NAMES, "LIMITER_DATA_DIR", ...bindings, ...others])).toEqual([]);
});
