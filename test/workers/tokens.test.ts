import { afterEach, expect, test, vi } from "vitest";
import { readConfig } from "../../src/config/config";
import { Tokens } from "../../src/request/tokens";

const tokensOf = (variables: Record<string, string>) => new Tokens(readConfig(variables));

const LISTS = { LIMITER_TOKENS: "caller-1,caller-2,short", LIMITER_ADMIN_TOKENS: "admin-11,admin-22" };

/** SHA-256 of `by-digest`, as `printf %s by-digest | sha256sum` prints it. */
const DIGEST = "f4ab6f8cd6d519001f149b3750b36af387fb0dcc0e66fc7e6591b5076a0fe996";

afterEach(() => void vi.restoreAllMocks());

test.each([
  ["caller-1", { name: "LIMITER_TOKENS[0]", role: "caller" }],
  ["caller-2", { name: "LIMITER_TOKENS[1]", role: "caller" }],
  ["short", { name: "LIMITER_TOKENS[2]", role: "caller" }],
  ["admin-11", { name: "LIMITER_ADMIN_TOKENS[0]", role: "admin" }],
  ["admin-22", { name: "LIMITER_ADMIN_TOKENS[1]", role: "admin" }],
  ["by-digest", { name: "backend", role: "caller", policies: new Set(["chat"]), endsAtMs: Date.UTC(2030, 0, 1) }],
  ["xaller-1", undefined],
  ["caller-x", undefined],
  ["caller-1 and more", undefined],
])("the digest of %s is compared in constant time with every other, wherever it is found", (text, found) => {
  const compare = vi.spyOn(crypto.subtle, "timingSafeEqual");
  const backend = `backend caller policies=chat until=2030-01-01T00:00:00Z sha256:${DIGEST}`;
  const token = tokensOf({ ...LISTS, LIMITER_TOKEN_DIGESTS: backend }).find(text);
  if (found) expect(token).toMatchObject(found);
  else expect(token).toBeUndefined();
  expect(compare).toHaveBeenCalledTimes(6);
});

test.each(["", "caller-", "caller-11", "caller-1 ", "Caller-1", "caller-1,caller-2", DIGEST, `sha256:${DIGEST}`])(
  "%j is no token",
  (text) => {
    expect(tokensOf({ ...LISTS, LIMITER_TOKEN_DIGESTS: `a caller sha256:${DIGEST}` }).find(text)).toBeUndefined();
  },
);

test("a token is digested once, a wrong one each time", () => {
  const digest = vi.spyOn(TextEncoder.prototype, "encode");
  const compare = vi.spyOn(crypto.subtle, "timingSafeEqual");
  const tokens = tokensOf(LISTS);
  const counted = (text: string) => {
    digest.mockClear();
    compare.mockClear();
    tokens.find(text);
    return [digest.mock.calls.length, compare.mock.calls.length];
  };
  expect([counted("caller-1"), counted("caller-1"), counted("caller-1")]).toEqual([
    [1, 5],
    [0, 0],
    [0, 0],
  ]);
  expect([counted("wrong"), counted("wrong")]).toEqual([
    [1, 5],
    [1, 5],
  ]);
});

test("a text that is longer than any token is not digested", () => {
  const long = "x".repeat(5_000);
  const digest = vi.spyOn(TextEncoder.prototype, "encode");
  const tokens = tokensOf({ LIMITER_TOKENS: `short,${long}` });
  digest.mockClear();
  expect(tokens.find(`${long}x`)).toBeUndefined();
  expect(digest).not.toHaveBeenCalled();
  expect(tokens.find(long)?.name).toBe("LIMITER_TOKENS[1]");
});

test("a token that stands in both lists is an admin's, and one with a digest is what its line says", () => {
  expect(tokensOf({ LIMITER_TOKENS: "both", LIMITER_ADMIN_TOKENS: "both" }).find("both")?.role).toBe("admin");
  const line = `grafana metrics-only sha256:${DIGEST}`;
  const tokens = tokensOf({ LIMITER_ADMIN_TOKENS: "by-digest", LIMITER_TOKEN_DIGESTS: line });
  expect(tokens.find("by-digest")).toMatchObject({ name: "grafana", role: "metrics-only" });
});
