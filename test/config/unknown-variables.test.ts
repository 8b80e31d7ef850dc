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
])("%s is named, with %s as what was probably meant", (name, meant) => {
  expect(unknownVariables([name])).toEqual([`Unknown variable ${name}. Did you mean ${meant}?`]);
});

test("a name that is like none is named without a guess", () => {
  expect(unknownVariables(["LIMITER_XYZ"])).toEqual(["Unknown variable LIMITER_XYZ. README.md lists all variables."]);
});

test("every variable, the settings of npm start and the bindings are known, and names of other programs are ignored", () => {
  const bindings = ["LIMITER_OBJECTS", "LIMITER_STATS", "LIMITER_ANALYTICS", "LIMITER_HUBS"];
  const others = ["PATH", "PORT", "HOST", "RATE_LIMITS", "MY_RATE_LIMIT_CHAT_PER_MINUTE", "rate_limit_x"];
  expect(unknownVariables([...VARIABLE_NAMES, "LIMITER_DATA_DIR", ...bindings, ...others])).toEqual([]);
});
