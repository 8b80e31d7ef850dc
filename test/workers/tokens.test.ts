import { afterEach, expect, test, vi } from "vitest";
import { encodeTokens, roleOf } from "../../src/request/tokens";

const tokens = encodeTokens({ caller: ["caller-1", "caller-2", "short"], admin: ["admin-11", "admin-22"] });

afterEach(() => void vi.restoreAllMocks());

test.each([
  ["caller-1", "caller"],
  ["caller-2", "caller"],
  ["admin-11", "admin"],
  ["admin-22", "admin"],
  ["xaller-1", undefined],
  ["caller-x", undefined],
])("the token %s is compared in constant time with all tokens of its length, wherever it is found", (token, role) => {
  const compare = vi.spyOn(crypto.subtle, "timingSafeEqual");
  expect(roleOf(token, tokens)).toBe(role);
  expect(compare).toHaveBeenCalledTimes(4);
});

test.each(["", "caller-", "caller-11", "caller-1 ", "Caller-1", "caller-1,caller-2"])("%j is no token", (token) => {
  expect(roleOf(token, tokens)).toBeUndefined();
});
