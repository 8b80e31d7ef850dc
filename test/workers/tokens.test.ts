import { afterEach, expect, test, vi } from "vitest";
import { encodeTokens, tokenOf } from "../../src/request/tokens";

const tokens = encodeTokens({ caller: ["caller-1", "caller-2", "short"], admin: ["admin-11", "admin-22"] });

afterEach(() => void vi.restoreAllMocks());

test.each([
  ["caller-1", { name: "LIMITER_TOKENS[0]", role: "caller" }],
  ["caller-2", { name: "LIMITER_TOKENS[1]", role: "caller" }],
  ["admin-11", { name: "LIMITER_ADMIN_TOKENS[0]", role: "admin" }],
  ["admin-22", { name: "LIMITER_ADMIN_TOKENS[1]", role: "admin" }],
  ["xaller-1", undefined],
  ["caller-x", undefined],
])("the token %s is compared in constant time with all tokens of its length, wherever it is found", (token, found) => {
  const compare = vi.spyOn(crypto.subtle, "timingSafeEqual");
  expect(tokenOf(token, tokens)).toEqual(found);
  expect(compare).toHaveBeenCalledTimes(4);
});

test.each(["", "caller-", "caller-11", "caller-1 ", "Caller-1", "caller-1,caller-2"])("%j is no token", (token) => {
  expect(tokenOf(token, tokens)).toBeUndefined();
});

test("a token that stands in both lists is an admin's", () => {
  expect(tokenOf("both", encodeTokens({ caller: ["both"], admin: ["both"] }))?.role).toBe("admin");
});
